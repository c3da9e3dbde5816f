"""Tables of head files."""

import numpy as np
from rich.text import Text

from cokv_bench.budgets import HeadBudgets, HeadFile
from cokv_bench.cli import options as o


def print_heads(file: HeadFile) -> None:
    """Print the heads of most value, where the file has any, and what else it says."""
    for first in list(file.measured.values())[:1]:
        places = sorted(np.ndindex(*first.shape), key=lambda place: (-first[place], place))
        head = "KV head" if first.shape[1] == file.model["kv_heads"] else "query head"
        rows = [(*map(str, place), *(f"{each[place]:.4f}" for each in file.measured.values())) for place in places[:10]]
        o.print_table(f"Most valuable of {len(places)} heads", ("layer", head, *file.measured), rows)
    for name, line in file.describe().items():
        o.tell(f"{name}: {line}")


def print_budgets(file: HeadBudgets) -> None:
    """Print how a total is split over layers and heads."""
    o.print_table(
        f"Tokens per head at budget {file.budget}, {file.total} in all",
        ("layer", *(f"head {head}" for head in range(file.tokens.shape[1]))),
        [
            (str(layer), *(Text(str(count), style="dim" if count == file.window else "") for count in row))
            for layer, row in enumerate(file.tokens.tolist())
        ],
    )
