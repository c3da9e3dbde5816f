"""Where work runs: in this process, or on workers that Ray starts."""

from typing import TYPE_CHECKING

from cokv_bench.lazy import lazily

if TYPE_CHECKING:
    from cokv_bench.engines.base import Call, Engine, Workers
    from cokv_bench.engines.local import LocalWorkers

__all__ = ["Call", "Engine", "LocalWorkers", "Workers"]

__getattr__ = lazily(__name__, {"LocalWorkers": "local", **dict.fromkeys(("Call", "Engine", "Workers"), "base")})
