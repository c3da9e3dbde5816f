"""How a search went: what its own examples to choose on said, round after round, beside unseen examples.

python scripts/search_curve.py profiles/smollm2-135m/needle-search --examples 40 --out results/search/curve

Reads the ledger of a finished search and judges the average of each round on the test split: curve.csv with the steps,
the seconds, and the share of the gap between equal shares and the full cache that is closed (gain over gap), at each
budget of the search; curve.png shows it.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer

from cokv_bench.budgets.fingerprint import check_same_model
from cokv_bench.budgets.head_shares import WINDOW
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.cli.groups import Only, grouped
from cokv_bench.cli.progress import progress_bar
from cokv_bench.errors import RequestError
from cokv_bench.files import make_folder
from cokv_bench.models.spec import ModelSpec
from cokv_bench.report.figures import Lines, Series
from cokv_bench.report.static import save_beside
from cokv_bench.search import SearchExamples
from cokv_bench.search.climb import measure_ends
from cokv_bench.search.examples import Point
from cokv_bench.search.gaps import Gaps
from cokv_bench.search.ledger import SearchLedger
from cokv_bench.tasks.prompts import Encoding
from cokv_bench.tasks.registry import TaskOptions, resolve


@grouped
def main(
    folder: Annotated[Path, typer.Argument(help="Folder of a search.")],
    model: ModelSpec,
    tasks: TaskOptions,
    encoding: Annotated[Encoding, Only("max_length")],
    out: Annotated[Path, typer.Option(help="Folder for the table and the figure.")] = Path("results/search/curve"),
) -> None:
    """Judge the rounds, write the table and the figure."""
    make_folder(out)
    ledger = SearchLedger.read(folder / "search.jsonl")
    if not ledger.rounds:
        raise RequestError(f"{ledger.path} has no round yet; let the search end first.")
    header = ledger.settings
    # That of the gap, then that of the shares; experts have several.
    gap, *own = header.get("rankings", [WINDOW, WINDOW])
    if len(own) != 1:
        raise RequestError(f"{ledger.path} is of {len(own)} experts; a curve is of one split.")
    budgets: list[int] = header["budgets"]
    loaded = o.load(model)
    check_same_model(header["model"], loaded.fingerprint, str(folder))
    test = SearchExamples(
        loaded,
        resolve(tasks.names, loaded, tasks),
        header["utilities"],
        window=header["window"],
        kernel=header["kernel"],
        pooling=header["pooling"],
        rankings=(gap, *own),
        budgets=header["budgets"],
        encoding=replace(encoding, question_agnostic=header["question_agnostic"]),
        split="test",
    )
    cases, gaps = test.counted, Gaps(test.groups, measure_ends(test, budgets))
    rows: list[dict[str, Any]] = []
    with progress_bar(o.progress_console, "Judging", "round") as progress:
        for done, each in enumerate(ledger.rounds):
            progress(done, len(ledger.rounds), f"step {each.step}")
            for budget, average in zip(budgets, torch.tensor(each.average), strict=True):
                points = [Point(case, budget, test.rankings.index(own[0])) for case in cases]
                found = test.score(points, [average] * len(points))
                rows.append(
                    {
                        "step": each.step,
                        "seconds": round(each.seconds, 1),
                        "budget": budget,
                        "followed": each.followed,
                        "chosen": each.chosen[str(budget)],
                        "unseen": gaps.closed_over(budget, dict(zip(cases, found, strict=True))),
                        "logprob": float(np.mean(found)),
                    }
                )
    table = pd.DataFrame(rows)
    table.to_csv(out / "curve.csv", index=False)
    save_beside(f"Share of the gap closed, {folder.name}", _curves(table), out / "curve.png")
    typer.echo(table.round(3).to_string(index=False))
    typer.echo(f"The table and the figure are in {out}")


def _curves(table: pd.DataFrame) -> list[Lines]:
    """A figure a budget: what the search saw, dashed, and unseen examples."""
    figures = []
    for budget, part in table.groupby("budget", sort=False):
        series = (
            Series.plain("examples to choose on", part["step"], part["chosen"], dash=1),
            Series.plain("unseen examples", part["step"], part["unseen"], style=1),
        )
        figures.append(Lines(f"{budget} tokens per head", "", "steps", "share of the gap closed", series))
    return figures


if __name__ == "__main__":
    run_script(main)
