"""Times, read when the device has done all that it was given."""

import time
from collections.abc import Callable
from typing import Any

import torch


def clock(device: torch.device | None = None) -> float:
    """Seconds on a clock without a zero.

    Args:
        device: that is waited for; default the current GPU, where there is one.
    """
    if torch.cuda.is_available() if device is None else device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(work: Callable[[], Any], repeats: int, *, warm_up: int = 0) -> list[float]:
    """Seconds of each of `repeats` calls, after `warm_up` calls that do not count."""
    times = []
    for _ in range(warm_up + repeats):
        started = clock()
        work()
        times.append(clock() - started)
    return times[warm_up:]
