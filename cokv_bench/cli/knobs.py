"""Chosen knobs on the terminal."""

from cokv_bench.budgets.knobs import Knobs, Options
from cokv_bench.cli import options as o


def print_knobs(knobs: Knobs) -> None:
    """A table per benchmark: a row per method and budget, with its best setting and what that is worth."""
    for name, tuning in knobs.benchmarks.items():
        rows = []
        for method, curves in tuning.curves.items():
            for budget, tried in curves.items():
                best, published = max(tried, key=lambda each: each.utility), tried[0].utility
                worth = (f"{best.utility:.3f}", f"{published:.3f}", f"{best.utility - published:+.3f}")
                rows.append((method, str(budget), shown(best.options), *worth))
        o.print_table(
            f"Chosen on {len(tuning.examples)} profile examples of {name} (utility: {tuning.utility})",
            ("method", "budget", "setting", "utility", "published setting", "gain"),
            rows,
            words=("method", "setting"),
        )


def shown(options: Options) -> str:
    """Options as on one line, such as "kernel 11, pooling avg"."""
    return ", ".join(f"{name} {value}" for name, value in options.items())
