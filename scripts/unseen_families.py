"""What head files do for families of tasks that they have seen nothing of, beside files that have seen them.

The run measures a utility and has files of both kinds, as `cokv-search:file=all` and, one for each family, as
`cokv-search:file=without-NAME`; `cokv-bench search --leave-out` writes them. So does `cokv-bench profile --leave-out`
with values, which are `cokv:file=all` and so on:

python scripts/unseen_families.py RUN --family needle --family code=longbench/lcc+longbench/repobench-p

Files of both kinds may be in several runs of the same examples; what two of them have is taken from the first.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.errors import RequestError
from cokv_bench.files import write_text
from cokv_bench.option import budgets
from cokv_bench.report.grids import budget_phrase, ends
from cokv_bench.runs.journal import read_records
from cokv_bench.scores.differences import tested, weighed
from cokv_bench.scores.gaps import LOWER, OVER_ALL, UPPER, gaps_table
from cokv_bench.scores.tables import frame_of
from cokv_bench.tasks.families import LeaveOut, TaskFamily

MEAN = "mean of the families"
# Half a 95% interval in standard errors.
_HALF = 1.96


def main(
    run: Annotated[
        list[Path], typer.Argument(help="Folders of runs of a utility, such as loglik, on the same examples.")
    ],
    family: Annotated[
        list[str], typer.Option(help="Tasks, or benchmarks of tasks, with plus signs between them and NAME= before.")
    ],
    method: Annotated[
        str, typer.Option(help="Methods that have files of both kinds, with commas; the first one is tested.")
    ] = "cokv-search",
    budget: Annotated[str, typer.Option(help="Budgets that count, with commas. Default: all of the run.")] = "",
    baseline: Annotated[
        str, typer.Option(help="Methods to test against beside the files of both kinds.")
    ] = "snapkv,headkv,cokv",
    out: Annotated[Path | None, typer.Option(help="Table to write, CSV.")] = None,
) -> None:
    """Print gain over gap by family, and tests of the unseen files against other methods over all families."""
    methods = method.split(",")
    families = LeaveOut(tuple(family)).families
    frame = frame_of([record for folder in run for record in read_records(folder)])
    frame = frame.drop_duplicates(["task", "example", "method", "budget"])
    if budget:
        frame = frame[frame["budget"].isna() | frame["budget"].isin(budgets(budget, "--budget"))]
    for task in frame["task"].unique():
        if len(both := [each.name for each in families if each.has(task)]) > 1:
            raise RequestError(f"The task '{task}' is of the families '{both[0]}' and '{both[1]}'; name it in one.")
    parts = {each.name: _of_family(frame, each, methods) for each in families}
    table = pd.concat([_closed(part).assign(family=name) for name, part in parts.items()])
    table = pd.concat([table, _mean(table)], ignore_index=True)
    for size, at in table.groupby("budget"):
        rows = [
            (row.family, row.method, f"{row.closed:.2f}", ends(row.low, row.high, 2), f"{row.examples}")
            for row in at.itertuples()
        ]
        o.print_table(
            f"Gain over gap at {budget_phrase(size)}",
            ("family", "method", "closed", "95%", "rows"),
            rows,
            words=["family", "method"],
        )
    unseen, *others = _called(methods, "").values()
    tests = _tests(parts, unseen, [*baseline.split(","), *others])
    o.print_table(
        f"{unseen}, less the method; nats per token, mean over families and budgets",
        ("method", "difference", "p, corrected"),
        [(row.method, f"{row.difference:+.3f}", f"{row.p_adjusted:.4f}") for row in tests.itertuples()],
        words=["method"],
    )
    if out is not None:
        write_text(out, table.to_csv(index=False))
        write_text(out.with_name(f"{out.stem}-tests.csv"), tests.to_csv(index=False))


def _called(methods: Sequence[str], family: str) -> dict[str, str]:
    """How tables call the files of each method: those without a family, then those with all."""
    unseen = {f"{method}:file=without-{family}": f"{method}, family unseen" for method in methods}
    return unseen | {f"{method}:file=all": f"{method}, family seen" for method in methods}


def _of_family(frame: pd.DataFrame, family: TaskFamily, methods: Sequence[str]) -> pd.DataFrame:
    """The records of a family, with its own files alone."""
    mine = frame["task"].map(family.has)
    called = _called(methods, family.name)
    missing = sorted({UPPER, LOWER, *called} - set(frame.loc[mine, "method"]))
    if missing:
        raise RequestError(f"The run has no records of '{missing[0]}' for the family '{family.name}'; evaluate it too.")
    others = tuple(f"{method}:file=" for method in methods)
    other = frame["method"].str.startswith(others) & ~frame["method"].isin(called)
    return frame[mine & ~other].assign(method=lambda part: part["method"].replace(called))


def _closed(part: pd.DataFrame) -> pd.DataFrame:
    """A row a budget and method: gain over gap with its interval."""
    gaps = gaps_table(part)
    over = gaps[(gaps["task"] == OVER_ALL) & ~gaps["method"].isin([UPPER, LOWER])]
    names = {"closed_ci_low": "low", "closed_ci_high": "high"}
    found = over[["budget", "method", "closed", *names]].rename(columns=names)
    # A row that two tasks share counts in both.
    return found.assign(examples=len(part[["task", "example"]].drop_duplicates()))


def _mean(table: pd.DataFrame) -> pd.DataFrame:
    """The mean over the families, whose rows are different: the squares of their standard errors add up."""

    def over(at: pd.DataFrame) -> pd.Series:
        error = _HALF * np.sqrt((((at["high"] - at["low"]) / (2 * _HALF)) ** 2).sum(skipna=False)) / len(at)
        closed = at["closed"].mean()
        return pd.Series(
            {"closed": closed, "low": closed - error, "high": closed + error, "examples": at["examples"].sum()}
        )

    found = table.groupby(["budget", "method"])[["closed", "low", "high", "examples"]].apply(over).reset_index()
    return found.astype({"examples": int}).assign(family=MEAN)


def _tests(parts: dict[str, pd.DataFrame], unseen: str, baselines: Sequence[str]) -> pd.DataFrame:
    """Of a method against each baseline: all families and budgets, each family with the same weight.

    Raises:
        RequestError: the run lacks a baseline, or an example of one.
    """
    shares = []
    for name, part in parts.items():
        wide = part.dropna(subset="budget").pivot_table(
            index=["task", "example"], columns=["method", "budget"], values="score"
        )
        means = wide.T.groupby(level="method").mean().T
        missing = [each for each in baselines if each not in means]
        if missing:
            raise RequestError(f"The run has no records of '{missing[0]}' for the family '{name}'; leave it out.")
        less = means[list(baselines)].rsub(means[unseen], axis=0)
        for baseline in less.columns[less.isna().any()]:
            task, example = less.index[less[baseline].isna()][0]
            raise RequestError(
                f"Example {example} of '{task}' has no record of '{baseline}' or of '{unseen}'; finish the run."
            )
        shares.append(weighed(less, len(parts)))
    return tested(pd.concat(shares))


if __name__ == "__main__":
    run_script(main)
