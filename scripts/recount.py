"""Count the tables of runs again from their records, without the model.

python scripts/recount.py results/search/universal results/search/ruler

For runs whose records stay and whose tables were written by an earlier version: other intervals, other tests. Runs are
compared with the baselines that their comparisons.csv names.
"""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from search_evidence import draw

from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.report import write_formats
from cokv_bench.runs.journal import read_run
from cokv_bench.scores.comparisons import choose_baseline
from cokv_bench.scores.evidence import write_evidence
from cokv_bench.scores.tables import write_tables


def main(runs: Annotated[list[Path], typer.Argument(help="Folders of runs.")]) -> None:
    """Write the tables of each run again."""
    for folder in runs:
        configuration = read_run(folder)["configuration"]
        named = baselines(folder, configuration["methods"])
        if "utility" in configuration:
            gaps = write_evidence(folder, configuration, named)
            if gaps["budget"].nunique() > 1:
                draw(gaps, folder / "gaps.png")
        else:
            write_formats(folder, write_tables(folder, *named[:1]), configuration)
        o.tell(f"Tables of {folder} are counted again")


def baselines(folder: Path, methods: list[str]) -> list[str]:
    """What the run's comparisons compare with, and where there are none the method that would be chosen."""
    path = folder / "comparisons.csv"
    if path.is_file():
        return [str(name) for name in pd.read_csv(path, usecols=["baseline"])["baseline"].unique()]
    chosen = choose_baseline(methods, None)
    return [] if chosen is None else [chosen]


if __name__ == "__main__":
    run_script(main)
