"""What each knob of each method is worth, on profile examples.

python scripts/study_knobs.py KNOBS.json --out results/smollm2-135m/knobs

From the file that `cokv-bench tune` wrote, knobs.csv: a row per benchmark, method, budget and setting; and queries.csv:
for each number of queries that rank, with the published kernel (and the queries' mean) and with the best of kernels and
mean or maximum, the mean over the methods without head budgets that were tried with all these numbers, while the
published window is kept. Utilities are those of the file (log-probabilities in nats per token).
"""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from cokv_bench.budgets.knobs import Knobs, Options
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.cli.knobs import print_knobs, shown
from cokv_bench.files import write_text

#: Methods without head budgets.
METHODS = ("snapkv", "pyramidkv", "ada-snapkv", "ada-pyramid")
#: Knobs of a ranking.
_RANKING = {"window", "observe", "kernel", "pooling", "queries"}


def main(
    knobs: Annotated[Path, typer.Argument(help="File of `cokv-bench tune`.")],
    out: Annotated[Path, typer.Option(help="Folder of the table.")] = Path("results/knobs"),
) -> None:
    """Write what was tried."""
    file = Knobs.load(knobs)
    queries = queries_table(file)
    for name, table in (("knobs.csv", curves_table(file)), ("queries.csv", queries)):
        write_text(out / name, table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
    print_knobs(file)
    print(queries.pivot_table(index=["benchmark", "budget", "kernel"], columns="queries", values="utility").round(2))
    o.tell(f"The tables are in {out}")


def curves_table(file: Knobs) -> pd.DataFrame:
    """A row per benchmark, method, budget and setting that was tried; `gain` is over the published setting."""
    rows = [
        {"benchmark": benchmark, "examples": len(tuning.examples), "method": method, "budget": budget}
        | {"setting": shown(each.options), "utility": each.utility, "gain": each.utility - tried[0].utility}
        | {"chosen": each.options == tuning.chosen(method, budget)}
        for benchmark, tuning in file.benchmarks.items()
        for method, curves in tuning.curves.items()
        for budget, tried in curves.items()
        for each in tried
    ]
    return pd.DataFrame(rows)


def queries_table(file: Knobs) -> pd.DataFrame:
    """A row per benchmark, budget, number of queries and kernel (published, or best tried): a mean over `METHODS`."""
    rows = [
        {"benchmark": benchmark, "method": method, "budget": budget, "queries": _queries(each.options, file.window)}
        | {"published": _kernel(each.options) == _kernel({}), "utility": each.utility}
        for benchmark, tuning in file.benchmarks.items()
        for method in METHODS
        for budget, tried in tuning.curves.get(method, {}).items()
        for each in tried
        # Settings of the first round, in which rankings alone are tried.
        if set(each.options) <= _RANKING and each.options.get("window", file.window) == file.window
    ]
    if not rows:
        return pd.DataFrame(columns=["benchmark", "budget", "queries", "kernel", "utility"])
    frame, cell = pd.DataFrame(rows), ["benchmark", "budget", "queries"]
    # A mean over other methods at each number would compare methods.
    counts = frame.groupby(["benchmark", "budget", "method"])["queries"].transform("nunique")
    frame = frame[counts == counts.groupby([frame["benchmark"], frame["budget"]]).transform("max")]
    parts = [
        part.groupby([*cell, "method"])["utility"].max().groupby(cell).mean().reset_index().assign(kernel=name)
        for name, part in (("published", frame[frame["published"]]), ("best", frame))
    ]
    return pd.concat(parts)[[*cell, "kernel", "utility"]].sort_values([*cell, "kernel"], ignore_index=True)


def _queries(options: Options, window: int) -> int:
    return int(options.get("observe", options.get("window", window)))


def _kernel(options: Options) -> tuple[int, str, str]:
    return options.get("kernel", 7), options.get("pooling", "max"), options.get("queries", "mean")


if __name__ == "__main__":
    run_script(main)
