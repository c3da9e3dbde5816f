"""One page of several runs: a table for each benchmark of each run, with scores by budget and the primary tests.

python scripts/overview.py results/rankings/needles "results/smollm2-135m:snapkv,cokv" --out results/overview.md

Scores and tests are counted from the runs' records, so a run needs no tables.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from cokv_bench.cli.failing import run_script
from cokv_bench.errors import RequestError
from cokv_bench.files import write_text
from cokv_bench.policies.names import FULL, label
from cokv_bench.report.grids import budget_text, decimal, ends, p_phrase
from cokv_bench.report.markdown import escape
from cokv_bench.runs.journal import read_records, read_run
from cokv_bench.scores.comparisons import PRIMARY
from cokv_bench.scores.means import overall
from cokv_bench.scores.tables import COMPARISONS, count_tables
from cokv_bench.scores.units import Unit, unit_of

INTRODUCTION = """# Overview

Scores and primary tests of the main runs of this folder, written by `make overview`. A test compares two methods over
all budgets of a table. Its p-value is corrected for all comparisons of the run with the same method, and a **bold**
difference has a corrected p below 0.05.
"""


def main(
    runs: Annotated[list[str], typer.Argument(help="Folders of runs; methods to compare with after a colon.")],
    out: Annotated[Path | None, typer.Option(help="Markdown file to write. Default: only print.")] = None,
) -> None:
    """Print the tables of the runs and write them."""
    page = INTRODUCTION + "".join(f"\n{part}" for run in runs for part in _parts(run))
    typer.echo(page)
    if out is not None:
        write_text(out, page)


def _parts(run: str) -> Iterator[str]:
    """The sections of one run.

    Raises:
        RequestError: the folder is no run, or it lacks a method to compare with.
    """
    folder, _, named = run.partition(":")
    configuration, records = read_run(Path(folder))["configuration"], read_records(Path(folder))
    if not records:
        raise RequestError(f"{folder} has no records yet; finish the run first.")
    unit = unit_of(configuration, records)
    tables = count_tables(records, configuration, named.split(",") if named else ())
    compared = tables.get(COMPARISONS, pd.DataFrame({"family": [], "task": [], "baseline": []}))
    primary = compared[compared["family"] == PRIMARY]
    scores = tables["scores.csv"]
    for task in overall(configuration["tasks"]):
        yield _section(folder, configuration, unit, scores[scores["task"] == task], primary[primary["task"] == task])


def _section(
    folder: str, configuration: Mapping[str, Any], unit: Unit, scores: pd.DataFrame, primary: pd.DataFrame
) -> str:
    """A heading, and a table with a row per method: a score per budget, and a difference per baseline."""
    task = scores["task"].iloc[0]
    budgets = list(dict.fromkeys(scores["budget"].dropna()))
    baselines = list(dict.fromkeys(primary["baseline"]))
    columns = scores["method"], scores["budget"], scores["score"]
    cells = {
        (method, budget_text(budget)): decimal(x, unit.decimals) for method, budget, x in zip(*columns, strict=True)
    }
    tests = {(row.method, row.baseline): _difference(row, unit) for row in primary.itertuples()}
    header = ["method", *map(budget_text, budgets), *(f"{unit.gain} over {label(each)}" for each in baselines)]
    lines = [header, [":--", *("--:" for _ in header[1:])]]
    for method in dict.fromkeys(scores["method"]):
        at = [cells.get((method, "" if method == FULL else budget_text(budget)), "") for budget in budgets]
        lines.append([escape(label(method)), *at, *(tests.get((method, each), "") for each in baselines)])
    examples = int(scores["n"].max())
    title = f"## {_called(configuration['model']['id'])}: {task}, {examples} examples"
    source = f"{unit.caption}, by tokens kept per head. Run: `{folder}`."
    return "\n".join([title, "", source, "", *(f"| {' | '.join(line)} |" for line in lines), ""])


def _called(model: str) -> str:
    """A model's name; of a GGUF file that of its folder, which says more than the file's."""
    path = Path(model)
    return path.parent.name if path.suffix == ".gguf" and path.parent.name else model


def _difference(row: Any, unit: Unit) -> str:
    """A difference with its interval and corrected p, bold where it is significant."""
    value = decimal(row.difference, unit.decimals)
    # A task with one example has no interval.
    around = ends(row.ci_low, row.ci_high, unit.decimals)
    shown = f"**{value}**" if row.p_adjusted < 0.05 else value
    return f"{shown}{f' ({around})' if around else ''}, {p_phrase(row.p_adjusted)}"


if __name__ == "__main__":
    run_script(main)
