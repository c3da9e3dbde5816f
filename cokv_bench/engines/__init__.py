"""Where work runs: in this process, or on workers that Ray starts."""

from cokv_bench.engines.base import Call, Engine, Workers
from cokv_bench.engines.local import LocalWorkers

__all__ = ["Call", "Engine", "LocalWorkers", "Workers"]
