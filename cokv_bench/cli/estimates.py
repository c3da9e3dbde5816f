"""What work will cost, as a table."""

from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table

from cokv_bench.runs.estimate import Load, Shape, estimate, matrix_speed


def print_estimate(console: Console, shape: Shape, parts: Sequence[tuple[str, Sequence[Load]]]) -> None:
    """Print counts, operations, memory and a rough time of each part and of all, for a matrix product's speed here."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    speed = matrix_speed(device, dtype)
    table = Table(title="Plan: at most, if every answer reaches its limit of tokens", title_justify="left")
    table.add_column("what", overflow="fold")
    for column in ("prompts", "tokens", "answers", "prefill\nTFLOP", "decode\nTFLOP", "memory\nGiB", "hours"):
        table.add_column(column, justify="right")
    rows = [(name, estimate(shape, loads)) for name, loads in parts]
    total = estimate(shape, [load for _, loads in parts for load in loads])
    for name, cost in [*rows, ("all", total)]:
        if name == "all":
            table.add_section()
        table.add_row(
            name,
            f"{cost.prompts:,}",
            f"{cost.prompt_tokens:,}",
            f"{cost.answers:,}",
            f"{cost.prefill / 1e12:,.0f}",
            f"{cost.decode / 1e12:,.0f}",
            f"{cost.memory / 2**30:.1f}",
            f"{cost.seconds(speed) / 3600:,.2f}",
        )
    console.print(table)
    console.print(
        f"Hours are rough: a matrix product in {str(dtype).removeprefix('torch.')} does {speed / 1e12:.2f} TFLOP a "
        f"second on this {device.type}. Memory is weights, the longest prompt and its rows, on one device.",
        highlight=False,
    )
