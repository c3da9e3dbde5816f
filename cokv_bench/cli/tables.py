"""Rich tables of head files."""

import numpy as np
from rich.console import Console
from rich.table import Table

from cokv_bench.budgets import HeadBudgets, HeadFile


def print_heads(console: Console, file: HeadFile) -> None:
    """Print the heads of most value, where the file has any, and what else it says."""
    for first in list(file.measured.values())[:1]:
        places = sorted(np.ndindex(*first.shape), key=lambda place: (-first[place], place))
        table = Table(title=f"Most valuable of {len(places)} heads", title_justify="left")
        head = "KV head" if first.shape[1] == file.model["kv_heads"] else "query head"
        for column in ("layer", head, *file.measured):
            table.add_column(column, justify="right")
        for layer, number in places[:10]:
            cells = (f"{each[layer, number]:.4f}" for each in file.measured.values())
            table.add_row(str(layer), str(number), *cells)
        console.print(table)
    for name, line in file.describe().items():
        console.print(f"{name}: {line}", highlight=False, markup=False, soft_wrap=True)


def print_budgets(console: Console, file: HeadBudgets) -> None:
    """Print how a total is split over layers and heads."""
    table = Table(title=f"Tokens per head at budget {file.budget}, {file.total} in all", title_justify="left")
    table.add_column("layer", justify="right")
    for head in range(file.tokens.shape[1]):
        table.add_column(f"head {head}", justify="right")
    for layer, row in enumerate(file.tokens.tolist()):
        table.add_row(str(layer), *(f"[dim]{count}[/dim]" if count == file.window else str(count) for count in row))
    console.print(table)
