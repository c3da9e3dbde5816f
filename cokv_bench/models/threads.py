"""How many threads a model gets on a CPU: a number that is asked for, or one that is timed on the spot.

On cores that other work keeps busy, threads wait for each other at every product, and two can be many times slower
than one.
"""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

#: What users fix the number with, for this and for other programs.
VARIABLE = "OMP_NUM_THREADS"
#: Fewer threads are taken where they are so many times as fast. Timings vary, and on quiet cores the number must not:
#: sums round differently with it.
_FASTER = 1.25
#: Shapes of a small model: a piece of a prompt, and the rows of a step, with the weights that both are multiplied by.
_PROMPT, _STEP, _WEIGHTS = 256, 8, (576, 1536)
_STEPS = 20
_ROUNDS = 5
#: No round begins after so many seconds.
_LIMIT = 1.0


@dataclass(frozen=True)
class Threads:
    """A number of threads and, in words, where it comes from."""

    count: int
    reason: str

    @property
    def told(self) -> str:
        """In words, for the user."""
        return f"{self.count} CPU thread{'' if self.count == 1 else 's'} ({self.reason})"


def number_set() -> int | None:
    """What OMP_NUM_THREADS says, of several levels the first; None where it says no number."""
    found = re.match(r"\s*([1-9][0-9]{0,3})\b", os.environ.get(VARIABLE, ""))
    return None if found is None else int(found[1])


def choose(asked: int | None = None) -> Threads:
    """The number of threads for a model on a CPU; `take` sets it.

    What is asked for comes first, then OMP_NUM_THREADS. Otherwise a few products are timed, in a fraction of a second.

    Args:
        asked: the number that the user names, None for none.
    """
    if asked is not None:
        return Threads(asked, "asked for with --threads")
    set_ = number_set()
    if set_ is not None:
        return Threads(set_, f"{VARIABLE} is set")
    seconds = timed()
    count = fastest(seconds)
    if len(seconds) == 1:
        return Threads(count, "there is one core")
    told = ", ".join(f"{each}: {1000 * seconds[each]:.0f} ms" for each in sorted(seconds))
    return Threads(count, f"timed just now, {told}; --threads sets another number")


def take(threads: Threads) -> None:
    """Let PyTorch compute with so many threads in this process."""
    import torch  # On first use, as in `timed`: `cokv-bench doctor` does without where nothing is timed.

    torch.set_num_threads(threads.count)


def timed() -> dict[int, float]:
    """Mean seconds of a round of products by the number of threads: powers of two below PyTorch's number, and that.

    The numbers take turns, so that what else runs meanwhile meets all of them. PyTorch's number is left as it was.
    """
    import torch

    usual = torch.get_num_threads()
    counts = [usual, *(count for count in (2**power for power in reversed(range(10))) if count < usual)]
    if len(counts) == 1:
        return {usual: 0.0}
    weights = torch.ones(_WEIGHTS)
    prompt, step = torch.ones(_PROMPT, _WEIGHTS[0]), torch.ones(_STEP, _WEIGHTS[0])
    spent: dict[int, list[float]] = {count: [] for count in counts}
    begun = time.perf_counter()
    try:
        for number in range(_ROUNDS + 1):
            for count in counts:
                torch.set_num_threads(count)
                started = time.perf_counter()
                for each in (prompt, *[step] * _STEPS):
                    _ = each @ weights
                if number == 1:
                    spent[count].clear()  # The first round has started the threads.
                spent[count].append(time.perf_counter() - started)
            if time.perf_counter() - begun > _LIMIT:
                break  # On very busy cores the first round has to do.
    finally:
        torch.set_num_threads(usual)
    return {count: sum(each) / len(each) for count, each in spent.items()}


def fastest(seconds: Mapping[int, float]) -> int:
    """The greatest number of threads, unless fewer are clearly faster; then the fastest.

    Args:
        seconds: by number of threads, one or more.
    """
    usual, best = max(seconds), min(seconds, key=lambda count: (seconds[count], count))
    return best if seconds[usual] >= _FASTER * seconds[best] else usual
