"""Rich tables of head files."""

import numpy as np
from rich.console import Console
from rich.table import Table

from cokv_bench.budgets import HeadBudgets, HeadValues


def print_values(console: Console, values: HeadValues) -> None:
    """Print the heads of most value with their standard errors, and the choice of alpha."""
    flat = sorted(
        ((values.values[layer, head], layer, head) for layer, head in np.ndindex(*values.values.shape)), reverse=True
    )
    table = Table(title=f"Most valuable of {len(flat)} heads ({values.samples} pairs)", title_justify="left")
    for column in ("layer", "KV head", "value", "standard error"):
        table.add_column(column, justify="right")
    for value, layer, head in flat[:10]:
        table.add_row(str(layer), str(head), f"{value:.4f}", f"{values.standard_errors[layer, head]:.4f}")
    console.print(table)
    if values.status:
        console.print(_status(values), highlight=False, markup=False)
    for budget, curve in values.alphas.items():
        shown = ", ".join(
            f"[bold]{alpha}: {utility:.3f}[/bold]" if alpha == values.alpha(budget) else f"{alpha}: {utility:.3f}"
            for alpha, utility in curve.items()
        )
        console.print(f"Utility by alpha at budget {budget}: {shown}", highlight=False)


def _status(values: HeadValues) -> str:
    """Why sampling stopped and how far the ledger had come, in a sentence or two."""
    names = ("standard_error", "rank_correlation", "reliability", "mean_absolute_difference", "published_threshold")
    error, correlation, reliability, difference, threshold = (
        "unknown" if values.status.get(name) is None else f"{values.status[name]:.4g}" for name in names
    )
    return (
        f"Sampling '{values.status.get('sampling')}' ended by {values.status.get('stopped_by')}. "
        f"Median standard error {error}; "
        f"the ledger's halves have a rank correlation of {correlation} (expected between ledgers of this length: "
        f"{reliability}) and differ by {difference} on average (published stop: below {threshold})."
    )


def print_budgets(console: Console, file: HeadBudgets) -> None:
    """Print how a total is split over layers and heads."""
    table = Table(title=f"Tokens per head at budget {file.budget}, {file.total} in all", title_justify="left")
    table.add_column("layer", justify="right")
    for head in range(file.tokens.shape[1]):
        table.add_column(f"head {head}", justify="right")
    for layer, row in enumerate(file.tokens.tolist()):
        table.add_row(str(layer), *(f"[dim]{count}[/dim]" if count == file.window else str(count) for count in row))
    console.print(table)
