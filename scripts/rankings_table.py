"""Rankings times splits: what share of the gap to the full cache each pair closes, by group of tasks, with intervals.

python scripts/rankings_table.py RUN --out TABLE.csv

Of runs of a utility such as loglik that have pairs of a ranking and a split (`laq`, `laq+adaptive`, `laq+cokv`) and
shares that were searched under a ranking and have its label (`cokv-search:file=laq`). A pair that several runs have is
that of the last one. Only rows that all runs have count. Intervals of several tasks need two rows of each, so `several`
is all tasks that have them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.errors import RequestError
from cokv_bench.files import write_text
from cokv_bench.policies.names import label, parse
from cokv_bench.registries import SCORERS
from cokv_bench.report.grids import budget_phrase, ends
from cokv_bench.runs.journal import read_records
from cokv_bench.scores.gaps import LOWER, OVER_ALL, UPPER, gaps_table
from cokv_bench.scores.tables import frame_of
from cokv_bench.tasks.registry import family_of

_SEARCHED = "cokv-search"
_SPLITS = ("uniform", "adaptive", "cokv", "headkv", "searched")
_GROUPS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "all": lambda frame: frame["task"].notna(),
    "several": lambda frame: frame.groupby("task")["example"].transform("nunique") > 1,
    "RULER": lambda frame: frame["task"].map(family_of).map(lambda family: family.name) == "ruler",
    "LongBench": lambda frame: frame["task"].str.startswith("longbench"),
}


def main(
    run: Annotated[list[Path], typer.Argument(help="Folders of runs of a utility.")],
    out: Annotated[Path | None, typer.Option(help="Table to write, CSV.")] = None,
) -> None:
    """Print and write the table."""
    frames = {folder: frame_of(read_records(folder)).set_index(["task", "example"]) for folder in run}
    common = set.intersection(*(set(frame.index) for frame in frames.values()))
    parts = [_of_run(folder, frame[frame.index.isin(common)].reset_index()) for folder, frame in frames.items()]
    found = pd.concat(parts, ignore_index=True)
    table = found.drop_duplicates(["group", "budget", "ranking", "split"], keep="last")
    table = table.assign(place=table["split"].map(_place)).sort_values(["ranking", "place"], kind="stable")
    table = table.sort_values(["group", "budget"], key=_in_order, kind="stable").drop(columns="place")
    for (group, budget), at in table.groupby(["group", "budget"], sort=False):
        rows = [
            (label(row.ranking), row.split, f"{row.closed:.2f}", ends(row.low, row.high, 2)) for row in at.itertuples()
        ]
        title = f"Gain over gap, {group}, {budget_phrase(budget)}"
        o.print_table(title, ("ranking", "split", "closed", "95%"), rows, words=["ranking", "split"])
    if out is not None:
        write_text(out, table.to_csv(index=False, float_format="%.4f"))


def _place(split: str) -> int:
    """Where a split stands: simple ones first, shares of its own ranking last but for those of another."""
    return _SPLITS.index(split) if split in _SPLITS else len(_SPLITS)


def _in_order(column: pd.Series) -> pd.Series:
    return column.map(list(_GROUPS).index) if column.name == "group" else column


def _of_run(folder: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """A row a group of tasks, budget and pair, of a run's records."""
    pairs = {method: pair for method in frame["method"].unique() if (pair := _pair(method)) is not None}
    if not pairs or not {UPPER, LOWER} <= set(frame["method"]):
        raise RequestError(f"{folder} needs the methods full and {LOWER}, and a ranking with a split.")
    frame = frame[frame["method"].isin([UPPER, LOWER, *pairs])]
    parts = []
    for group, of in _GROUPS.items():
        some = frame[of(frame)]
        gaps = gaps_table(some)
        over = gaps[(gaps["task"] == OVER_ALL) & gaps["method"].isin(pairs)]
        rows = len(some[["task", "example"]].drop_duplicates())
        parts.append(over.assign(group=group, rows=rows))
    table = pd.concat(parts)
    named = pd.DataFrame([pairs[method] for method in table["method"]], columns=["ranking", "split"], index=table.index)
    columns = {"closed_ci_low": "low", "closed_ci_high": "high"}
    kept = ["group", "budget", "ranking", "split", "closed", *columns, "rows", "method"]
    return table.assign(run=folder.name, **named)[[*kept, "run"]].rename(columns=columns)


def _pair(method: str) -> tuple[str, str] | None:
    """The ranking and the split; None of a method that is neither a pair nor shares with a label."""
    found = parse(method)
    if found.split is None and found.ranking.name == _SEARCHED:
        ranking = dict(found.ranking.options).get("file")
        return None if ranking not in SCORERS else (ranking, _SPLITS[-1])
    if found.ranking.name not in SCORERS:
        return None
    if found.split is None:
        return found.ranking.name, _SPLITS[0]
    return found.ranking.name, found.split.text


if __name__ == "__main__":
    run_script(main)
