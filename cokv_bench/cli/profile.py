"""`cokv-bench profile`: what each KV head is worth, from coalitions of heads."""

from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.groups import grouped
from cokv_bench.cli.progress import progress_bar
from cokv_bench.engines.options import EngineOptions
from cokv_bench.limits import Stopping
from cokv_bench.models.spec import ModelSpec
from cokv_bench.option import gibibytes
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.families import LeaveOut
from cokv_bench.tasks.options import TaskOptions


@grouped
def profile_heads(
    model: ModelSpec,
    tasks: TaskOptions,
    encoding: Encoding,
    stopping: Stopping,
    left_out: LeaveOut,
    engine: EngineOptions,
    utility: Annotated[
        str,
        typer.Option(
            help="What a coalition is worth: loglik (fast), metric (as published), agreement or acceptance (need no "
            "labels)."
        ),
    ] = "loglik",
    estimator: Annotated[
        str, typer.Option(help="ridge (regression) or ssv (as published); see `cokv-bench ls estimators`.")
    ] = "ridge",
    sampling: Annotated[
        str | None,
        typer.Option(help="How coalitions are drawn; see `cokv-bench ls samplings`. Default: the estimator's."),
    ] = None,
    window: o.Window = 8,
    memory_limit: o.MemoryLimit = None,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: profiles/<model>/<tasks>.")] = None,
) -> None:
    """Measure what each KV head is worth, as a player of a cooperative game.

    Heads in a coalition keep the whole prompt, the others its last tokens only; a coalition is worth how well the model
    then answers the task's validation examples. Each example is prefilled once for all coalitions. The ledger of all
    coalitions (ledger.jsonl) and the head values with standard errors (values.json) stay in the profile's
    folder; the same command resumes where a stopped one left off, and more --samples extend it. Head values without the
    families of --leave-out are estimated from the same ledger.
    """
    o.check_engine(engine)
    o.check_tasks(tasks)
    o.check_names("utilities", [utility])
    o.check_names("estimators", [estimator])
    o.check_names("samplings", [] if sampling is None else [sampling])
    families = left_out.families

    from cokv_bench.cli.tables import print_heads
    from cokv_bench.game.head_game import make_game
    from cokv_bench.game.profile import default_folder, profile
    from cokv_bench.tasks.registry import resolve

    memory = None if memory_limit is None else gibibytes(memory_limit)
    with o.workers(engine, model) as (pool, loaded):
        folder = out or default_folder(loaded, tasks.names)
        game = make_game(
            loaded,
            resolve(tasks.names, loaded, tasks),
            utility,
            window=window,
            encoding=encoding,
            memory_limit=memory if memory is not None or pool is None else pool.memory_limit(),
            spill_folder=folder,
            workers=pool,
        )
        with progress_bar(o.progress_console, "Profiling", "evaluation") as progress:
            values = profile(
                game,
                folder,
                estimator=estimator,
                sampling=sampling,
                seed=tasks.seed,
                stopping=stopping,
                left_out=families,
                progress=progress,
            )
    print_heads(values)
    if game.prompts.spilled:
        o.tell(
            f"{game.prompts.spilled} of {len(game.rows)} prompts were kept in a file; raise --memory-limit "
            "to keep more in memory."
        )
    o.tell(f"Ledger and head values are in {folder}")
    for family in families:
        o.tell(f"Head values without {', '.join(family.tasks)} are in {folder / family.folder}")
