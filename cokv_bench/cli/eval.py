"""`cokv-bench eval`: methods by budgets by tasks, one prefill per example."""

from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.groups import Asked, grouped
from cokv_bench.cli.progress import progress_bar
from cokv_bench.engines.options import EngineOptions
from cokv_bench.errors import RequestError
from cokv_bench.models.spec import ModelSpec
from cokv_bench.option import gibibytes
from cokv_bench.runs.grid import SCORE, TUNED, Grid
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.shards import Shard
from cokv_bench.scores.comparing import Comparing
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.options import TaskOptions


@grouped
def evaluate(
    model: ModelSpec,
    grid: Grid,
    tasks: TaskOptions,
    encoding: Encoding,
    heads: HeadSources,
    engine: EngineOptions,
    comparing: Comparing,
    asked: Asked,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run. Default: results/<model>-<hash of the settings>.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="Do only this part of the work, such as 2/8; all parts share one --out.")
    ] = None,
    memory_limit: Annotated[
        float | None,
        typer.Option(
            help="Memory limit in GiB for a prompt and its answers. Default: no limit for the prompt, 2 GiB for the "
            "answers."
        ),
    ] = None,
    dry_run: o.DryRun = False,
) -> None:
    """Evaluate eviction methods at the same budgets, as scored CSV tables.

    Every example is prefilled once, and all methods and budgets decode from it. The run's folder keeps each answer
    (records.jsonl); repeat the command to resume an interrupted run.
    """
    o.check_engine(engine)
    o.check_tasks(grid.with_questions(tasks))
    o.check_methods(grid.methods)
    o.check_names("utilities", [] if grid.utility == SCORE else [grid.utility])
    if comparing.reference is not None and grid.utility != SCORE:
        raise RequestError(
            f"--reference has published scores; with --utility {grid.utility} there are none to compare."
        )
    grid.check()
    share = None if shard is None else Shard.parse(shard)
    memory = None if memory_limit is None else gibibytes(memory_limit)

    from cokv_bench.scores.comparisons import choose_baselines
    from cokv_bench.scores.reference import check_shared, read_reference

    choose_baselines(list(grid.methods), list(comparing.baselines))
    if comparing.reference is not None:
        read_reference(comparing.reference)

    from cokv_bench.cli.estimates import print_estimate, print_power
    from cokv_bench.cli.outcome import show_outcome
    from cokv_bench.costs.estimate import Shape
    from cokv_bench.costs.planned import plan_loads
    from cokv_bench.runs.execute import execute
    from cokv_bench.runs.overlap import left_out_line
    from cokv_bench.runs.request import Request, plan_request
    from cokv_bench.scores.power import planned

    request = Request(grid, tasks, encoding, heads)
    request.check()
    with o.workers(EngineOptions() if dry_run else engine, model) as (pool, loaded):
        plan = plan_request(request, loaded)
        if plan.left_out:
            o.tell(left_out_line(plan.left_out, plan.examples))
        if dry_run:
            print_estimate(Shape.of(loaded), plan_loads(plan))
            if plan.utility is None:
                print_power(o.console, planned(plan.configuration), measured=False)
            return
        if share is not None and not share.of(plan.jobs):
            o.tell(f"Shard {shard} has nothing to do: there are {len(plan.jobs)} prompts for {share.count} shards.")
            return
        if comparing.reference is not None:
            check_shared(comparing.reference, plan.configuration)
        folder = out or Path("results") / plan.name
        with progress_bar(o.progress_console, "Evaluating", "prompt") as progress:
            execute(plan, folder, progress, request=asked, workers=pool, shard=share, memory=memory)
    show_outcome(plan, folder, list(comparing.baselines), comparing.reference)
    if grid.knobs == TUNED and "knobs" not in plan.configuration:
        o.tell(
            "The methods have their published settings; `cokv-bench tune` chooses them for a model, --knobs takes them."
        )
    o.tell(f"Tables, records and settings are in {folder}")
