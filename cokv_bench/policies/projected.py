"""How much a token can add to the residual stream: the 1-norm of its value after the output projection, ||v W_O||_1."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cokv_bench.models.projection import output_projection

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt
    from cokv_bench.models.model import Model

#: Bytes of projected values that exist at a time: few enough for the cache of a CPU, and enough for a GPU.
BLOCK_BYTES = 2**22
DEVICE_BLOCK_BYTES = 2**26


def projected_norms(prompt: "Prompt", why: str) -> list[Tensor]:
    """||v W_O||_1 of every token, mean over the query heads of a KV head: float32 [kv_heads, tokens] a layer.

    It takes as many multiplications as the output projection of the whole prompt, so a prompt remembers it for all
    rankings and windows.

    Args:
        why: who reads the model, such as "Ranking 'critical'".

    Raises:
        RequestError: the prompt does not know its model, or the model's projections cannot be read.
    """
    key = "projected norms"
    if key not in prompt.shared:
        model = prompt.reader(why)
        prompt.shared[key] = [
            _layer_norms(model, prompt.first_layer + layer, values) for layer, values in enumerate(prompt.values)
        ]
    found: list[Tensor] = prompt.shared[key]
    return found


def _layer_norms(model: "Model", layer: int, values: Tensor) -> Tensor:
    kv_heads, tokens, dim = values.shape
    by_head = output_projection(model, layer).unflatten(0, (kv_heads, -1))  # [kv_heads, group, dim, width]
    group, width = by_head.shape[1], by_head.shape[3]
    room = BLOCK_BYTES if values.device.type == "cpu" else DEVICE_BLOCK_BYTES
    block = max(1, room // (4 * group * width))
    norms = torch.empty(kv_heads, tokens, device=values.device)
    for head in range(kv_heads):
        # All query heads of the group side by side: the sum over them is one norm.
        weight = by_head[head].to(values.device, torch.float32).transpose(0, 1).reshape(dim, group * width)
        for start in range(0, tokens, block):
            part = values[head, start : start + block].float() @ weight
            norms[head, start : start + block] = part.abs_().sum(dim=1)
    return norms.div_(group)
