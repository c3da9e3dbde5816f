"""Scorers: how much a KV head wants each prompt token, one method a file."""

from cokv_bench.policies.scorers.accumulated_attention import AccumulatedAttention
from cokv_bench.policies.scorers.random import Random
from cokv_bench.policies.scorers.sinks_recency import SinksRecency
from cokv_bench.policies.scorers.window_attention import WindowAttention, window_attention

__all__ = ["AccumulatedAttention", "Random", "SinksRecency", "WindowAttention", "window_attention"]
