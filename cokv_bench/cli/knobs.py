"""Chosen knobs on the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cokv_bench.budgets.knobs import Knobs, Options


def print_knobs(console: Console, knobs: Knobs) -> None:
    """A table per benchmark: a row per method and budget, with its best setting and what that is worth."""
    for name, tuning in knobs.benchmarks.items():
        title = (
            f"Chosen on {len(tuning.examples)} profile examples of {escape(name)} (utility: {escape(knobs.utility)})"
        )
        table = Table(title=title, title_justify="left")
        for column in ("method", "budget", "setting", "utility", "published setting", "gain"):
            table.add_column(column, justify="left" if column in ("method", "setting") else "right", overflow="fold")
        for method, curves in tuning.curves.items():
            for budget, tried in curves.items():
                best = max(tried, key=lambda each: each.utility)
                published = tried[0].utility
                table.add_row(
                    escape(method),
                    str(budget),
                    escape(shown(best.options)),
                    f"{best.utility:.3f}",
                    f"{published:.3f}",
                    f"{best.utility - published:+.3f}",
                )
        console.print(table)


def shown(options: Options) -> str:
    """Options as on one line, such as "kernel 11, pooling avg"."""
    return ", ".join(f"{name} {value}" for name, value in options.items())
