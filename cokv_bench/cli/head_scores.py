"""`cokv-bench head-scores`: HeadKV's scores of the heads of a model."""

from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.groups import Only, grouped
from cokv_bench.cli.progress import progress_bar
from cokv_bench.files import check_target
from cokv_bench.models.spec import ModelSpec
from cokv_bench.tasks.options import TaskOptions


@grouped
def measure_head_scores(
    model: ModelSpec,
    tasks: Annotated[TaskOptions, Only("lengths", "examples", "seed")] = TaskOptions(examples=16),  # noqa: B008 - frozen
    window: o.Window = 8,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("head_scores.json"),
) -> None:
    """Measure HeadKV's head scores (arXiv 2410.19258) on needles of the profile split.

    Its beta is chosen on the same needles at each budget, by the log-probability of their answers, as CoKV's alpha is.
    """
    from cokv_bench.budgets.fingerprint import check_replaced
    from cokv_bench.game import head_scores as game
    from cokv_bench.tasks.registry import resolve

    check_target(out)
    loaded = o.load(model)
    check_replaced(out, loaded.fingerprint)
    (task,) = resolve(tasks.names, loaded, tasks)
    with progress_bar(o.progress_console, "Scoring heads", "example") as progress:
        scores = game.measure_head_scores(loaded, task, window=window, progress=progress)
    scores.save(out)
    o.tell(f"Wrote {out}: {len(scores.examples)} examples, highest score {scores.scores.max():.3f}")
    for budget in scores.betas:
        o.tell(f"At {budget} tokens per head beta {scores.beta(budget):g} is best")
