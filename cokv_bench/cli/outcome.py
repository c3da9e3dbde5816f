"""What a finished evaluation prints: its tables, and what they can show."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cokv_bench.cli import options as o

if TYPE_CHECKING:
    from cokv_bench.report.folders import Run
    from cokv_bench.runs.plan import Plan
    from cokv_bench.scores.tables import Results


def show_outcome(plan: "Plan", folder: Path, baselines: Sequence[str], reference: str | None) -> None:
    """Write the tables of a run that was executed, and print them.

    Args:
        baselines, reference: as for `cokv_bench.scores.tables.tabulate`.

    Raises:
        RequestError: as for `tabulate`.
    """
    from cokv_bench.cli.estimates import print_power
    from cokv_bench.report import write_results
    from cokv_bench.report.published import beside_reference
    from cokv_bench.report.terminal import print_grid
    from cokv_bench.scores.means import is_mean
    from cokv_bench.scores.power import observed
    from cokv_bench.scores.tables import REFERENCE

    results = write_results(folder, baselines, reference=reference)
    print_results(results)
    compared = results.tables.get("comparisons.csv")
    if compared is not None:
        # What a test can show is told once: it hardly depends on the baseline.
        first = compared[compared["baseline"] == compared["baseline"].iloc[0]]
        print_power(o.console, observed(first), measured=True, unit=results.unit)
    if REFERENCE in results.tables:
        grid, note = beside_reference(results.tables[REFERENCE])
        print_grid(o.console, grid)
        if note:
            o.tell(note)
    elif reference is not None:
        o.tell(f"The reference '{reference}' has none of the scores that exist so far.")
    scores = results.tables["scores.csv"]
    there = int(scores["n"][[not is_mean(task) for task in scores["task"]]].sum())
    if there < plan.answers:
        what = "answers" if plan.utility is None else "values"
        o.tell(f"{there} of {plan.answers} {what} exist so far; the other shards add the rest.")
    print_summary(results)


def print_summary(results: "Results", name: str | None = None) -> None:
    """Print what a run found, a sentence a line; nothing where no methods are compared.

    Args:
        name: of the run, above its sentences, where there are several runs.
    """
    from cokv_bench.report.summary import summary

    sentences = summary(*results)
    if sentences and name is not None:
        o.console.print(name, highlight=False, markup=False, style="bold")
    for sentence in sentences:
        o.tell(sentence)


def print_unfinished(run: "Run") -> None:
    """Print how many records a run has, where some are missing."""
    from cokv_bench.runs.finished import unfinished

    sentence = unfinished(run.configuration, run.records)
    if sentence:
        o.tell(sentence)


def print_results(results: "Results") -> None:
    """Print the table of scores, the comparisons that sum the run up, and the share of the gap that methods close."""
    from cokv_bench.report.gaps import closed
    from cokv_bench.report.layout import lay_out
    from cokv_bench.report.terminal import print_lines, print_tables

    print_tables(o.console, lay_out(*results), results.unit)
    if "gaps.csv" in results.tables:
        print_lines(o.console, closed(results.tables["gaps.csv"], results.unit, results.configuration["methods"]))
