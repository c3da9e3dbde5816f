"""Eviction policies: a scorer says which tokens a head wants, an allocator how many it gets."""

from cokv_bench.policies.policy import Allocator, Policy, Scorer
from cokv_bench.policies.registry import POLICIES, get_policy, register_policy

__all__ = ["POLICIES", "Allocator", "Policy", "Scorer", "get_policy", "register_policy"]
