"""What work will cost, as a table."""

import math
from collections.abc import Sequence

import torch
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cokv_bench.costs.estimate import Load, Shape, estimate, matrix_speed
from cokv_bench.scores.power import DISCORDANT, POWER, Detectable
from cokv_bench.scores.units import PERCENT, Unit


def print_estimate(console: Console, shape: Shape, parts: Sequence[tuple[str, Sequence[Load]]]) -> None:
    """Print counts, operations, memory and a rough time of each part and of all, for a matrix product's speed here."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    speed = matrix_speed(device, dtype)
    table = Table(
        title="Plan: at most, if every answer reaches its limit of tokens",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column("what", overflow="fold")
    for column in ("prompts", "tokens", "answers", "prefill\nPFLOP", "decode\nPFLOP", "memory\nGiB", "hours"):
        table.add_column(column, justify="right", no_wrap=True)
    rows = [(name, estimate(shape, loads)) for name, loads in parts]
    total = estimate(shape, [load for _, loads in parts for load in loads])
    for name, cost in [*rows, ("all", total)]:
        if name == "all":
            table.add_section()
        table.add_row(
            escape(name),
            _short(cost.prompts),
            _short(cost.prompt_tokens),
            _short(cost.answers),
            _rough(cost.prefill / 1e15),
            _rough(cost.decode / 1e15),
            f"{cost.memory / 2**30:.1f}",
            _rough(cost.seconds(speed) / 3600),
        )
    console.print(table)
    console.print(
        f"Hours are rough: a matrix product in {str(dtype).removeprefix('torch.')} does {speed / 1e12:.2f} TFLOP a "
        f"second on this {device.type}. Memory is weights, the longest prompt and its rows, on one device.",
        highlight=False,
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
