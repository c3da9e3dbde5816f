"""How far a ledger has come when sampling stops."""

import math
from typing import Any

from cokv_bench.game.stability import Stability
from cokv_bench.limits import DEFAULT_SAMPLES, Stopping

__all__ = ["DEFAULT_SAMPLES", "Stopping", "note", "status"]


def status(stability: Stability, players: int, stopped_by: str, sampling: str) -> dict[str, Any]:
    """How far a ledger has come, for the file of head values; null where a number is not known."""
    numbers = {
        "standard_error": stability.standard_error,
        "rank_correlation": stability.rank_correlation,
        "reliability": stability.reliability,
        "mean_absolute_difference": stability.mean_absolute_difference,
        "published_threshold": 1 / players,
    }
    known = {name: number if math.isfinite(number) else None for name, number in numbers.items()}
    return {"sampling": sampling, "stopped_by": stopped_by, **known}


def note(stability: Stability, players: int) -> str:
    """The same in one line, for the progress."""
    return (
        f"standard error {stability.standard_error:.4f}, halves: rank correlation {stability.rank_correlation:.2f}, "
        f"difference {stability.mean_absolute_difference:.4f} (published rule: below {1 / players:.4f})"
    )
