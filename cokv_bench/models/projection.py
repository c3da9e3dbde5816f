"""The output projection of attention, a slice a query head: what a head's output becomes in the residual stream."""

from typing import Any

from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.models.model import Model

# What implementations call it.
_NAMES = ("o_proj", "out_proj", "dense", "c_proj", "wo")


def output_projection(model: Model, layer: int) -> Tensor:
    """W_O of a layer by query head, [heads, value dim, width], in the model's dtype.

    Args:
        layer: its number among those that are evicted.

    Raises:
        RequestError: the layer's attention has no projection by one of the names that are known, or it is stored in a
            form that is not a matrix (some quantised ones).
    """
    block = model.decoder.layers[model.evicted_layers[layer]]
    attention: Any = getattr(block, "self_attn", None) or getattr(block, "attention", None) or block
    found = next((getattr(attention, name) for name in _NAMES if hasattr(attention, name)), None)
    weight = getattr(found, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        raise RequestError(
            f"'{model.name}' has no output projection that can be read in layer {layer} (looked for "
            f"{', '.join(_NAMES)}); choose a ranking that does not read it."
        )
    return weight.detach().T.unflatten(0, (model.heads, -1))
