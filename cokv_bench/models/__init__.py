"""Loading models and putting text into them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cokv_bench.models.chat import encode, encode_answer, encode_apart
    from cokv_bench.models.loading import load_model
    from cokv_bench.models.model import Model

__all__ = ["Model", "encode", "encode_answer", "encode_apart", "load_model"]

_HOMES = {"Model": "model", "load_model": "loading"}


def __getattr__(name: str) -> Any:
    # On first use, as in `cokv_bench` itself: which models there are is told without PyTorch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'chat')}"), name)
