"""Which attention heads should keep which tokens, at the same KV-cache budget? The public API."""

from cokv_bench.kvcache import decode, prefill
from cokv_bench.models import load_model
from cokv_bench.policies import get_policy

__all__ = ["decode", "get_policy", "load_model", "prefill"]
