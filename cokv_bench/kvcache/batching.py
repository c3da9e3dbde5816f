"""How much is done at a time: rows that decode together and tokens that a layer reads, within a limit of memory."""

import psutil
import torch

from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.models.model import Model

#: Bytes that the generated tokens of a batch may take where nobody says otherwise.
DEFAULT_MEMORY = 2 * 2**30
# Fewest tokens of a prompt that a layer reads at a time, and bytes that the activations of more may take on a CPU; on a
# GPU it is a share of what is free.
_SMALLEST_CHUNK = 2048
_CHUNK_BYTES = 2**30
_CHUNK_SHARE = 0.25
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
    by_workspace = workspace(prompt) // (_activations(model) * tokens_a_pass)
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


def tokens_at_a_time(model: Model, tokens: int) -> int:
    """Prompt tokens that a layer reads at a time: all where their activations fit, else pieces of one size.

    The attention of a piece that follows others is slower than that of a whole prompt. But a decoder that is called as
    a whole makes masks of as many rows as a piece has tokens and as many columns as the prompt. So do the scores of
    wide numbers on a GPU, where some releases of PyTorch have no fused attention for heads that share keys.
    """
    on_cpu = model.device.type == "cpu"
    if not model.verdict.lean:
        return min(tokens, _SMALLEST_CHUNK)
    if not on_cpu and model.network.dtype.itemsize > 2:
        most = _SMALLEST_CHUNK
    else:
        room = _CHUNK_BYTES if on_cpu else int(_CHUNK_SHARE * free_memory(model.device))
        most = max(_SMALLEST_CHUNK, room // _activations(model))
    return -(-tokens // -(-tokens // most))


def _activations(model: Model) -> int:
    """Bytes of a token's activations in a layer."""
    # The gated MLP holds three vectors of its inner width, the rest of a layer about eight of the model's.
    return int(3 * model.inner_width + 8 * model.config.hidden_size) * model.network.dtype.itemsize


def free_memory(device: torch.device) -> int:
    """Bytes that are free where a device's tensors lie; on a GPU with those that PyTorch holds and does not use."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return int(psutil.virtual_memory().available)
