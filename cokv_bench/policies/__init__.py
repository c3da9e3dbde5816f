"""Eviction policies: a scorer says which tokens per head wants, an allocator how many it gets."""

from typing import TYPE_CHECKING

from cokv_bench.lazy import lazily

if TYPE_CHECKING:
    from cokv_bench.policies.generating import generate
    from cokv_bench.policies.policy import Allocator, Policy, Scorer
    from cokv_bench.policies.registry import POLICIES, find_method, get_policy, register_policy

__all__ = ["POLICIES", "Allocator", "Policy", "Scorer", "find_method", "generate", "get_policy", "register_policy"]

# On first use: names of methods (`cokv_bench.policies.names`) are read and checked without PyTorch.
__getattr__ = lazily(
    __name__,
    {
        "generate": "generating",
        **dict.fromkeys(("Allocator", "Policy", "Scorer"), "policy"),
        **dict.fromkeys(("POLICIES", "find_method", "get_policy", "register_policy"), "registry"),
    },
)
