"""The output projection of attention, a slice a query head: what a head's output becomes in the residual stream."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.pytorch_utils import Conv1D

from cokv_bench.errors import RequestError
from cokv_bench.models.model import Model

# What implementations call the decoder's layers, their attention, and its output projection.
_LAYERS = ("layers", "h")
_ATTENTION = ("self_attn", "attention", "attn", "self_attention", "mixer")
_NAMES = ("o_proj", "out_proj", "dense", "c_proj", "wo")


def output_projection(model: Model, layer: int) -> Tensor:
    """W_O of a layer by query head, [heads, value dim, width], in the model's dtype.

    Args:
        layer: its number among those that are evicted.

    Raises:
        RequestError: the layer's attention has no projection by one of the names that are known, or it is stored in a
            form that is not a matrix (some quantised ones).
    """
    blocks = _first(model.decoder, _LAYERS)
    block = None if blocks is None else blocks[model.evicted_layers[layer]]
    found = _first(_first(block, _ATTENTION) or block, _NAMES)
    weight = getattr(found, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        raise RequestError(
            f"'{model.name}' has no output projection that can be read in layer {layer} (looked for "
            f"{', '.join(_NAMES)}); choose a ranking that does not read it."
        )
    # GPT-2's module multiplies with its weight as it is, the others with its transpose.
    inputs_first = weight if isinstance(found, Conv1D) else weight.T
    return inputs_first.detach().unflatten(0, (model.heads, -1))


def _first(module: Any, names: Sequence[str]) -> Any:
    """The first of its parts that it has, None for none."""
    return next((getattr(module, name) for name in names if getattr(module, name, None) is not None), None)
