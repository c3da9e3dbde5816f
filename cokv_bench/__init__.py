"""Which attention heads should keep which tokens, at the same KV-cache budget? The public API."""

from typing import TYPE_CHECKING, Any

from cokv_bench.lazy import lazily

if TYPE_CHECKING:
    from cokv_bench.kvcache import decode, prefill
    from cokv_bench.models import load_model
    from cokv_bench.policies import generate, get_policy

    __version__: str

__all__ = ["__version__", "decode", "generate", "get_policy", "load_model", "prefill"]

# On first use: importing torch takes seconds, and `cokv-bench --help` needs none of it.
_find = lazily(
    __name__,
    {
        **dict.fromkeys(("decode", "prefill"), "kvcache"),
        **dict.fromkeys(("generate", "get_policy"), "policies"),
        "load_model": "models",
    },
)


def __getattr__(name: str) -> Any:
    if name != "__version__":
        return _find(name)
    # pyproject.toml alone states it; an installed package knows it from there.
    from importlib.metadata import version

    return version("cokv-bench")
