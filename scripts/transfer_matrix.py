"""What budgets searched on one task are worth on every other: a matrix of tasks searched on by tasks judged on.

python scripts/transfer_matrix.py --data-dir FOLDER --out results/search/transfer

Each task of the matrix is searched on by itself, on its profile split with the utility `agreement`, and judged on
unseen rows of all of them by the log-probability of the reference answer. transfer.csv has a row per pair: the share
closed of the gap between equal shares and the full cache, and the difference from equal shares in nats per token with
its 95% interval over the examples. All rank as the shares of `--shares` do, so with those of a search under `window`
equal shares are SnapKV. Further rows are CoKV's embedded budgets, made on needles, and these shares, searched on many
tasks.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from numpy.typing import NDArray

from cokv_bench.budgets import HeadShares, HeadValues, embedded
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.cli.groups import Only, grouped
from cokv_bench.cli.progress import progress_bar
from cokv_bench.files import make_folder
from cokv_bench.models.spec import ModelSpec
from cokv_bench.scores.intervals import interval
from cokv_bench.search import SearchExamples, SearchLimits, search
from cokv_bench.tasks import Split
from cokv_bench.tasks.prompts import Encoding
from cokv_bench.tasks.registry import TaskOptions, resolve

TASKS = (
    *("needle", "text", "ruler/niah_multikey_1", "ruler/vt", "ruler/cwe"),
    *("longbench/qasper", "longbench/2wikimqa_e", "longbench/multi_news", "longbench/gov_report_e", "longbench/qmsum"),
    *("longbench/trec_e", "longbench/triviaqa_e", "longbench/samsum_e", "longbench/passage_count_e"),
)


@grouped
def main(
    model: ModelSpec,
    encoding: Annotated[Encoding, Only("max_length")],
    tasks: Annotated[TaskOptions, Only("names", "lengths", "data_dir", "seed")] = TaskOptions(TASKS, lengths=(2048,)),  # noqa: B008
    budget: Annotated[int, typer.Option(help="Tokens per KV head.")] = 64,
    steps: Annotated[int, typer.Option(help="Of each search.")] = 60,
    examples: Annotated[int, typer.Option(help="The most of a task, to search on.")] = 8,
    unseen: Annotated[int, typer.Option(help="The most of a task, to judge on.")] = 8,
    shares: Annotated[Path | None, typer.Option(help="Shares of a search. Default: the embedded ones.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the table; searches go to its folder `searches`.")] = Path(
        "results/search/transfer"
    ),
) -> None:
    """Search on each task, judge on all, write the table."""
    make_folder(out)
    loaded = o.load(model)

    everything = HeadShares.load(shares or embedded.shares_path())
    # All rank as these do.
    ranking: dict[str, Any] = {
        "rankings": (everything.scorer,),
        "kernel": everything.kernel,
        "pooling": everything.pooling,
    }

    def material(name: str, count: int, utility: str, split: Split) -> SearchExamples:
        found = resolve([name], loaded, replace(tasks, examples=count, limit=count))
        return SearchExamples(
            loaded, found, [utility], window=everything.window, encoding=encoding, split=split, **ranking
        )

    found: dict[str, NDArray[np.float64]] = {}
    with progress_bar(o.progress_console, "Searching", "step") as progress:
        for name in tasks.names:
            own = search(
                material(name, examples, "agreement", "profile"),
                out / "searches" / name.replace("/", "-"),
                [budget],
                seed=tasks.seed,
                stopping=SearchLimits(steps=steps),
                progress=lambda done, total, note, name=name: progress(done, total, f"{name}: {note}"),
            )
            found[name] = own.log_shares(budget)
    values = HeadValues.load(embedded.values_path())
    found["cokv (needles)"] = np.log(values.budgets(budget, window=8) - 8 + 0.5)
    found["many tasks"] = everything.log_shares(budget)
    rows: list[dict[str, object]] = []
    with progress_bar(o.progress_console, "Judging", "task") as progress:
        for done, name in enumerate(tasks.names):
            progress(done, len(tasks.names), name)
            rows += _judge(material(name, unseen, "loglik", "test"), name, budget, found)
    table = pd.DataFrame(rows)
    table.to_csv(out / "transfer.csv", index=False)
    typer.echo(table.pivot(index="searched_on", columns="judged_on", values="closed").round(2).to_string())
    typer.echo(f"The table is in {out}")


def _judge(
    test: SearchExamples, name: str, budget: int, found: dict[str, NDArray[np.float64]]
) -> Iterator[dict[str, object]]:
    """A row of the table for each set of log-shares."""
    cases = test.counted
    full = np.array([test.full(case) for case in cases])
    equal = test.score_all(cases, budget, torch.zeros(test.model.layers, test.model.kv_heads))
    for searched_on, shares in found.items():
        gained = test.score_all(cases, budget, torch.from_numpy(shares).float()) - equal
        low, high = interval([gained])
        yield {
            "searched_on": searched_on,
            "judged_on": name,
            "budget": budget,
            "n": len(cases),
            "gap": (full - equal).mean(),
            "gained": gained.mean(),
            "ci_low": low,
            "ci_high": high,
            "closed": gained.mean() / (full - equal).mean(),
        }


if __name__ == "__main__":
    run_script(main)
