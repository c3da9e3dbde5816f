"""Which attention heads should keep which tokens, at the same KV-cache budget? The public API."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cokv_bench.kvcache import decode, prefill
    from cokv_bench.models import load_model
    from cokv_bench.policies import get_policy

__all__ = ["decode", "get_policy", "load_model", "prefill"]

_HOMES = {"decode": "kvcache", "get_policy": "policies", "load_model": "models", "prefill": "kvcache"}


def __getattr__(name: str) -> Any:
    # On first use: importing torch takes seconds, and `cokv-bench --help` needs none of it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
