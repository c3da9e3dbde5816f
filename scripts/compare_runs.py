"""What changes for each method from one run to another on the same examples: published knobs and chosen ones, say.

python scripts/compare_runs.py results/smollm2-135m/papers results/smollm2-135m --task needle
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.errors import RequestError
from cokv_bench.runs.journal import read_records, read_run
from cokv_bench.scores.intervals import interval
from cokv_bench.scores.signflips import family_test
from cokv_bench.scores.tables import frame_of
from cokv_bench.scores.units import scale_of, unit_of


def main(
    before: Annotated[Path, typer.Argument(help="Folder of the run to compare with.")],
    after: Annotated[Path, typer.Argument(help="Folder of the other run.")],
    task: Annotated[str, typer.Option(help="Task of both.")] = "needle",
) -> None:
    """Print the mean difference of each method over its budgets, with a 95% interval and a joint test."""
    units = {unit_of(read_run(each)["configuration"], read_records(each)) for each in (before, after)}
    if len(units) > 1:
        raise RequestError(f"{before} and {after} did not measure the same; name two runs of one utility.")
    (unit,) = units
    changed = differences(scores(before, task), scores(after, task))
    if changed.empty:
        raise RequestError(f"{before} and {after} have no method, budget and example of '{task}' in common.")
    shares = (changed / changed.count()).fillna(0.0).to_numpy(float)
    test = family_test(shares, changed.count().to_numpy(), seed=0)
    rows = []
    gains = scale_of(read_run(before)["configuration"]).gains
    for place, method in enumerate(changed):
        known = changed[method].dropna().to_numpy(float)
        low, high = interval([known], gains)
        ends = " to ".join(f"{end:.{unit.decimals}f}" for end in (low, high))
        mean = f"{known.mean():+.{unit.decimals}f}"
        rows.append((str(method), str(len(known)), mean, ends, f"{test.adjusted[place]:.3f}"))
    title = f"{after} less {before}: {task}, mean over budgets, {unit.gain}"
    o.print_table(title, ("method", "examples", "difference", "95%", "p, corrected"), rows, words=["method"])


def scores(folder: Path, task: str) -> pd.Series:
    """Scores in the unit of tables by method, budget and example."""
    frame = frame_of(read_records(folder))
    mine = frame[(frame["task"] == task) & frame["budget"].notna()]
    return scale_of(read_run(folder)["configuration"]).factor * mine.set_index(["method", "budget", "example"])["score"]


def differences(before: pd.Series, after: pd.Series) -> pd.DataFrame:
    """Of what both have: a row per example, a column per method, means over the budgets."""
    both = pd.concat([before.rename("before"), after.rename("after")], axis=1, join="inner")
    changed = both["after"] - both["before"]
    return changed.groupby(level=["example", "method"]).mean().unstack("method").astype(np.float64)


if __name__ == "__main__":
    run_script(main)
