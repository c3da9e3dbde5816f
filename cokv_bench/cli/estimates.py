"""What work will cost, as a table."""

import math
from collections.abc import Sequence

import torch
from rich.console import Console

from cokv_bench.cli import options as o
from cokv_bench.costs.estimate import Load, Shape, estimate, matrix_speed
from cokv_bench.scores.power import DISCORDANT, POWER, Detectable
from cokv_bench.scores.units import PERCENT, Unit


def print_estimate(shape: Shape, parts: Sequence[tuple[str, Sequence[Load]]]) -> None:
    """Print counts, operations, memory and a rough time of each part and of all, for a matrix product's speed here."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    speed = matrix_speed(device, dtype)

    def row(name: str, loads: Sequence[Load]) -> tuple[str, ...]:
        cost = estimate(shape, loads)
        counts = map(_short, (cost.prompts, cost.prompt_tokens, cost.answers))
        work = (_rough(cost.prefill / 1e15), _rough(cost.decode / 1e15))
        return name, *counts, *work, f"{cost.memory / 2**30:.1f}", _rough(cost.seconds(speed) / 3600)

    o.print_table(
        "Plan: at most, if every answer reaches its limit of tokens",
        ("what", "prompts", "tokens", "answers", "prefill\nPFLOP", "decode\nPFLOP", "memory\nGiB", "hours"),
        [row(*part) for part in parts],
        [row("all", [load for _, loads in parts for load in loads])],
        words=["what"],
        wide=True,
    )
    o.tell(
        f"Hours are rough: a matrix product in {str(dtype).removeprefix('torch.')} does {speed / 1e12:.2f} TFLOP a "
        f"second on this {device.type}. Memory is weights, the longest prompt and its rows, on one device."
    )


def print_power(console: Console, found: Sequence[Detectable], *, measured: bool, unit: Unit = PERCENT) -> None:
    """Print which difference from the baseline each benchmark can show in the primary tests.

    Args:
        measured: whether the spread is that of the run, not assumed.
        unit: of the scores.
    """
    spread = "with the spread of this run" if measured else f"if {DISCORDANT:.0%} of the answers differ"
    for each in found:
        corrected = f"corrected for {each.comparisons} comparisons"
        if math.isnan(each.difference):
            told = f"{each.examples} examples are too few to show any difference ({corrected})."
        else:
            told = (
                f"{each.examples} examples show differences of about {each.difference:.{unit.decimals - 1}f} "
                f"{unit.gain} or more ({POWER:.0%} power, {corrected}, {spread})."
            )
        console.print(f"{each.task}: {told}", highlight=False, markup=False)


def _short(count: int) -> str:
    """A count in at most six characters: 9,870 is whole, 25,344,000 is 25.3M."""
    if count < 10_000:
        return f"{count:,}"
    for size, sign in ((1e9, "G"), (1e6, "M")):
        if count >= size:
            return f"{count / size:.1f}{sign}"
    return f"{count / 1e3:.1f}k"


def _rough(amount: float) -> str:
    """Two decimals of what is small, none of what is large."""
    return f"{amount:.2f}" if amount < 10 else f"{amount:,.0f}"
