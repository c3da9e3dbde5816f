"""Which attention heads should keep which tokens, at the same KV-cache budget? The public API."""

from typing import TYPE_CHECKING

from cokv_bench.lazy import lazily

if TYPE_CHECKING:
    from cokv_bench.kvcache import decode, prefill
    from cokv_bench.models import load_model
    from cokv_bench.policies import generate, get_policy

__all__ = ["decode", "generate", "get_policy", "load_model", "prefill"]

# On first use: importing torch takes seconds, and `cokv-bench --help` needs none of it.
__getattr__ = lazily(
    __name__,
    {
        **dict.fromkeys(("decode", "prefill"), "kvcache"),
        **dict.fromkeys(("generate", "get_policy"), "policies"),
        "load_model": "models",
    },
)
