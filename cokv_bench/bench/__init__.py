"""Memory and latency of decoding under eviction policies, beside FullKV."""

from typing import TYPE_CHECKING

from cokv_bench.lazy import lazily

if TYPE_CHECKING:
    from cokv_bench.bench.plan import BenchRequest
    from cokv_bench.bench.run import bench
    from cokv_bench.bench.shapes import PRESETS, check_preset, random_model

__all__ = ["PRESETS", "BenchRequest", "bench", "check_preset", "random_model"]

_SHAPES = dict.fromkeys(("PRESETS", "check_preset", "random_model"), "shapes")
__getattr__ = lazily(__name__, {"BenchRequest": "plan", "bench": "run", **_SHAPES})
