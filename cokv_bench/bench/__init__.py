"""Memory and latency of decoding under eviction policies, beside FullKV."""

from cokv_bench.bench.plan import BenchRequest
from cokv_bench.bench.run import bench
from cokv_bench.bench.shapes import PRESETS, check_preset, random_model

__all__ = ["PRESETS", "BenchRequest", "bench", "check_preset", "random_model"]
