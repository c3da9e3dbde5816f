"""How many rows decode together: enough to keep the processor busy, within a limit of memory."""

import psutil
import torch

from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.models.model import Model

#: Bytes that the generated tokens of a batch may take where nobody says otherwise.
DEFAULT_MEMORY = 2 * 2**30
# Smaller workspaces would starve the matrix products of short prompts.
_SMALLEST_WORKSPACE = 8 * 2**20


def rows_at_a_time(model: Model, prompt: Prompt, *, tokens_a_pass: int, reserve: int, memory: int | None = None) -> int:
    """Rows of a batch.

    Two things grow with the rows. The activations of a forward pass stay within a fifth of the prompt's own KV
    (8 MiB at least): a batch then adds little to what the prompt holds anyway, and a few hundred tokens a pass are
    enough for matrix products at full speed. The keys and values that rows generate, and a row's copy of what layers
    hold that are not evicted, stay within `memory`.

    Args:
        tokens_a_pass: new tokens of a row in one forward pass.
        reserve: the most tokens that a row keeps of its own.
        memory: bytes; default 2 GiB.
    """
    # The gated MLP holds three vectors of its inner width, the rest of a layer about eight of the model's.
    activations = (3 * model.inner_width + 8 * model.config.hidden_size) * model.network.dtype.itemsize
    by_workspace = workspace(prompt) // (activations * tokens_a_pass)
    own = reserve * prompt.layers * prompt.kv_heads * model.bytes_per_token + prompt.others.nbytes
    by_memory = (DEFAULT_MEMORY if memory is None else memory) // own
    return max(1, min(by_workspace, by_memory))


def logit_rows(model: Model, prompt: Prompt) -> int:
    """Rows whose float32 logits exist at a time, within the workspace."""
    vocabulary = model.network.get_input_embeddings().num_embeddings
    return max(1, workspace(prompt) // (4 * vocabulary))


def workspace(prompt: Prompt) -> int:
    """Bytes that the activations of a batch may take."""
    return max(_SMALLEST_WORKSPACE, prompt.nbytes // 5)


def free_memory(device: torch.device) -> int:
    """Bytes that are free where a device's tensors lie."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
