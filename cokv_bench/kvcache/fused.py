"""A decoding step of a Llama-like decoder with few kernels, for models that turn out to be like that.

The layer's own modules are read for their weights and never called: two RMS norms, attention from three projections
with rotary by halves (and norms of queries and keys, as Qwen3 has), a gated MLP with SiLU. Whether that is all that a
decoder does is not told by its name: `fused` compares a few steps with the model's own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import SiLUActivation

from cokv_bench.kvcache.pool import Kernel, Pool
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.tiling import Tiling
from cokv_bench.models.model import Model
from cokv_bench.models.rotary import rotary_factors

# Steps and rows that are compared, and by how many standard deviations of the states they may differ. In 16 bits, where
# sums are rounded in another order, two right ways are up to 0.06 apart in real models of 24 and 30 layers.
_STEPS, _ROWS = 3, 2
_TOLERANCE, _TOLERANCE_16 = 2e-3, 0.1

#: A step: ids and positions [rows, 1] and the pool that the rows lie in, to last hidden states [rows, width].
Read = Callable[[Tensor, Tensor, Pool], Tensor]


class Kernels(Protocol):
    """See `triton_step`."""

    def add_norm(
        self, hidden: Tensor, more: Tensor | None, weight: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor]: ...

    def rotate_and_store(
        self,
        mixed: Tensor,
        cosines: Tensor,
        sines: Tensor,
        norms: tuple[Tensor, Tensor, float] | None,
        keys: Tensor,
        values: Tensor,
        own_starts: Tensor,
        own_counts: Tensor,
    ) -> Tensor: ...

    def gate(self, both: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class _Layer:
    """The weights of a layer; those of projections that read the same states are one matrix."""

    before: Tensor
    after: Tensor
    epsilon: float
    mixed: tuple[Tensor, Tensor | None]
    norms: tuple[Tensor, Tensor, float] | None
    out: nn.Linear
    gates: tuple[Tensor, Tensor | None]
    down: nn.Linear
    scaling: float


def own_read(model: Model) -> Read:
    """The step by the model's own layers."""
    return lambda ids, positions, pool: model.read(ids, positions, pool.cache, [1])[:, -1]


@torch.inference_mode()
def fused(model: Model, like: Prompt, kernel: Kernel, kernels: Kernels) -> Read | None:
    """The same step with few kernels; None for a model that is unlike Llama, or whose states come out otherwise.

    Its projections then have views of common matrices for weights, which takes no memory that stays.

    Args:
        like: a prompt of the model.
        kernel: of the attention.
    """
    dim = like.keys[0].shape[-1]
    try:
        layers = [_layer(layer) for layer in model.decoder.layers]
        _check_widths(model, dim, layers)
    except (AttributeError, TypeError):
        return None
    norm = model.decoder.norm

    def read(ids: Tensor, positions: Tensor, pool: Pool) -> Tensor:
        hidden = model.decoder.embed_tokens(ids)
        cosines, sines = (factor[:, -1] for factor in rotary_factors(model.decoder, hidden, positions, [1]))
        state, more = hidden[:, -1], None
        for layer, held in zip(layers, pool.layers, strict=True):
            state, normed = kernels.add_norm(state, more, layer.before, layer.epsilon)
            queries = kernels.rotate_and_store(
                F.linear(normed, *layer.mixed),
                cosines,
                sines,
                layer.norms,
                held.keys_flat,
                held.values_flat,
                held.own_starts,
                held.own_counts,
            )
            found = held.look(queries, layer.scaling)
            state, normed = kernels.add_norm(state, layer.out(found.flatten(1)), layer.after, layer.epsilon)
            more = layer.down(kernels.gate(F.linear(normed, *layer.gates)))
        return kernels.add_norm(state, more, norm.weight, norm.variance_epsilon)[1]

    return read if _same(model, like, kernel, own_read(model), read) else None


def _layer(layer: Any) -> _Layer:
    """Raises `AttributeError` or `TypeError` where a part is missing or another than expected."""
    attention, mlp = layer.self_attn, layer.mlp
    if not isinstance(mlp.act_fn, nn.SiLU | SiLUActivation):
        raise TypeError("not a gate with SiLU")
    norms = None
    if hasattr(attention, "q_norm"):
        norms = attention.q_norm.weight, attention.k_norm.weight, attention.q_norm.variance_epsilon
    return _Layer(
        before=layer.input_layernorm.weight,
        after=layer.post_attention_layernorm.weight,
        epsilon=layer.input_layernorm.variance_epsilon,
        mixed=_joined([attention.q_proj, attention.k_proj, attention.v_proj]),
        norms=norms,
        out=attention.o_proj,
        gates=_joined([mlp.gate_proj, mlp.up_proj]),
        down=mlp.down_proj,
        scaling=attention.scaling,
    )


def _check_widths(model: Model, dim: int, layers: Sequence[_Layer]) -> None:
    """Raises `TypeError` where kernels would read beyond a row: heads of another width, or turned in part (GLM-4)."""
    states = layers[0].before.new_empty(1, 1, len(layers[0].before))
    cosines, _ = rotary_factors(model.decoder, states, torch.zeros(1, 1, dtype=torch.long, device=states.device), [1])
    widths = {len(layer.mixed[0]) for layer in layers}
    if cosines.shape[-1] != dim or widths != {(model.heads + 2 * model.kv_heads) * dim}:
        raise TypeError("not whole heads")


def _joined(parts: Sequence[Any]) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of projections side by side; theirs become views of these.

    Raises:
        TypeError: a projection that is no plain one (quantised), or that has a bias where another has none.
    """
    if any(type(part) is not nn.Linear for part in parts) or len({part.bias is None for part in parts}) > 1:
        raise TypeError("not plain projections")
    # Not of inference mode: a search goes backward through these weights.
    with torch.inference_mode(False), torch.no_grad():
        found: list[Tensor | None] = []
        for name in ("weight", "bias"):
            weights = [getattr(part, name) for part in parts]
            if weights[0] is None:
                found.append(None)
                continue
            whole = _common([each.data for each in weights])
            if whole is None:
                whole = torch.cat([each.data for each in weights])
                for each, view in zip(weights, whole.split([len(each) for each in weights]), strict=True):
                    each.data = view
            found.append(whole)
    weight, bias = found
    assert weight is not None
    return weight, bias


def _common(weights: Sequence[Tensor]) -> Tensor | None:
    """What weights are views of, side by side; None where they are not.

    Graphs of an earlier stream read it where it is, so it is not moved again.
    """
    first, end = weights[0], weights[0].storage_offset()
    for each in weights:
        elsewhere = each.untyped_storage().data_ptr() != first.untyped_storage().data_ptr()
        if elsewhere or each.storage_offset() != end or not each.is_contiguous():
            return None
        end += each.numel()
    size = (sum(len(each) for each in weights), *first.shape[1:])
    return first.as_strided(size, first.stride(), first.storage_offset())


def _same(model: Model, like: Prompt, kernel: Kernel, one: Read, other: Read) -> bool:
    """Whether two ways to take a step give the same states."""
    expected, found = (_states(model, like, kernel, read) for read in (one, other))
    if model.network.dtype.itemsize > 2:
        return bool((found - expected).abs().max() <= _TOLERANCE * expected.std())
    # The largest of all numbers is far out in two right ways too; the root mean square of a token's is not.
    tokens = (found - expected).square().mean(dim=-1).sqrt()
    return bool(tokens.max() <= _TOLERANCE_16 * expected.std())


def _states(model: Model, like: Prompt, kernel: Kernel, read: Read) -> Tensor:
    """float32 [steps, rows, width] after a few random tokens that see nothing but each other."""
    device, kv_heads = model.device, model.kv_heads
    pool = Pool(1 + _ROWS * kv_heads * _STEPS, like, kernel)
    starts = 1 + _STEPS * torch.arange(_ROWS * kv_heads).view(_ROWS, kv_heads)
    plan = Tiling.of(starts, torch.zeros_like(starts), device=device)
    counts = torch.zeros(_ROWS, dtype=torch.long, device=device)
    for layer in pool.layers:
        layer.plan, layer.own_starts, layer.own_counts = plan, starts.int().to(device), counts
    vocabulary = model.network.get_input_embeddings().num_embeddings
    ids = torch.randint(vocabulary, (_STEPS, _ROWS, 1), generator=torch.Generator().manual_seed(0)).to(device)
    found = []
    for number, part in enumerate(ids):
        counts += 1
        # The end of the longest text as well: some decoders scale queries by their position there (Ministral 3).
        positions = torch.tensor([[5 + number], [max(0, model.context - _STEPS) + number]], device=device)
        found.append(read(part, positions, pool).float())
    return torch.stack(found)
