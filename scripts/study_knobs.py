"""What each knob of each method is worth, on profile examples.

python scripts/study_knobs.py KNOBS.json --out results/smollm2-135m/knobs

From the file that `cokv-bench tune` wrote, knobs.csv: a row per benchmark, method, budget and setting. Utilities are
those of the file (log-probabilities in nats per token).
"""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from cokv_bench.budgets.knobs import Knobs
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.cli.knobs import print_knobs, shown
from cokv_bench.files import write_text


def main(
    knobs: Annotated[Path, typer.Argument(help="File of `cokv-bench tune`.")],
    out: Annotated[Path, typer.Option(help="Folder of the table.")] = Path("results/knobs"),
) -> None:
    """Write what was tried."""
    file = Knobs.load(knobs)
    table = curves_table(file).to_csv(index=False, float_format="%.4f", lineterminator="\n")
    write_text(out / "knobs.csv", table)
    print_knobs(o.console, file)
    o.console.print(f"The table is in {out}", highlight=False)


def curves_table(file: Knobs) -> pd.DataFrame:
    """A row per benchmark, method, budget and setting that was tried; `gain` is over the published setting."""
    rows = []
    for benchmark, tuning in file.benchmarks.items():
        for method, curves in tuning.curves.items():
            for budget, tried in curves.items():
                best = tuning.chosen(method, budget)
                for each in tried:
                    rows.append(
                        {
                            "benchmark": benchmark,
                            "examples": len(tuning.examples),
                            "method": method,
                            "budget": budget,
                            "setting": shown(each.options),
                            "utility": each.utility,
                            "gain": each.utility - tried[0].utility,
                            "chosen": each.options == best,
                        }
                    )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    run_script(main)
