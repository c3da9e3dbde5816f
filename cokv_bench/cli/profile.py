"""`cokv-bench profile`: what each KV head is worth, from coalitions of heads."""

from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.progress import progress_bar

STOP = "When to stop (the first that is met)"


def profile_heads(
    model: o.ModelName = "smollm2-135m",
    tasks: Annotated[str, typer.Option(help="Tasks to profile on, comma separated.")] = "needle",
    utility: Annotated[
        str, typer.Option(help="loglik (fast), metric (as published) or agreement (needs no labels).")
    ] = "loglik",
    estimator: Annotated[
        str, typer.Option(help="ridge (regression) or ssv (as published); see `cokv-bench ls estimators`.")
    ] = "ridge",
    sampling: Annotated[
        str | None,
        typer.Option(help="How coalitions are drawn; see `cokv-bench ls samplings`. Default: the estimator's."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="Pairs of a coalition and its complement. Default: 240, or no end if another criterion is given.",
            rich_help_panel=STOP,
        ),
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="Stop after this time, such as 90s, 15m or 2h.", rich_help_panel=STOP)
    ] = None,
    target_se: Annotated[
        float | None,
        typer.Option(help="Stop when half of the heads have a standard error of at most this.", rich_help_panel=STOP),
    ] = None,
    target_rank_correlation: Annotated[
        float | None,
        typer.Option(help="Stop when two halves of the ledger rank the heads alike to this.", rich_help_panel=STOP),
    ] = None,
    published_stop: Annotated[
        bool,
        typer.Option(
            "--published-stop",
            help="Stop as CoKV does: two halves differ by less than 1/heads on average.",
            rich_help_panel=STOP,
        ),
    ] = False,
    memory_limit: Annotated[
        float | None,
        typer.Option(help="GiB for prompts and batches. Default: 60% of what is free; prompts beyond go to a file."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: profiles/<model>/<tasks>.")] = None,
    seed: o.Seed = 0,
    window: o.Window = 8,
    data_dir: o.DataDir = None,
    limit: o.Limit = None,
    max_length: o.MaxLength = None,
    question_agnostic: o.QuestionAgnostic = False,
    lengths: o.Lengths = "1024",
    depths: o.Depths = 10,
    examples: o.Examples = None,
    haystack: o.Haystack = None,
    needles: o.Needles = None,
    ruler_qa: o.RulerQa = None,
    template: o.Template = None,
    metric: o.Metric = None,
    engine: o.Engine = "local",
    workers: o.Workers = None,
    address: o.Address = None,
    revision: o.Revision = None,
    dtype: o.Dtype = None,
    device: o.Device = None,
    device_map: o.DeviceMap = None,
    trust_remote_code: o.TrustRemoteCode = False,
) -> None:
    """Measure what each KV head is worth, as a player of a cooperative game.

    Heads in a coalition keep the whole prompt, the others its last tokens only; a coalition is worth how well the model
    then answers the task's validation examples. Each example passes prefill once for all coalitions. The ledger of all
    coalitions (ledger.jsonl) and the head values with standard errors (values.json) stay in the profile's
    folder; the same command goes on where a stopped one left off, and more --samples extend it.
    """
    wanted = o.names(tasks, "task")
    o.check_engine(engine, workers, address)
    o.check_tasks(wanted, ruler_qa)
    o.check_names("utilities", [utility])
    o.check_names("estimators", [estimator])
    o.check_names("samplings", [] if sampling is None else [sampling])
    o.check_names("metrics", [] if metric is None else [metric])

    from cokv_bench.cli.tables import print_values
    from cokv_bench.game.head_game import make_game
    from cokv_bench.game.profile import default_folder, profile
    from cokv_bench.game.stopping import Stopping
    from cokv_bench.models.spec import ModelSpec
    from cokv_bench.tasks.prompts import Encoding
    from cokv_bench.tasks.registry import TaskOptions, resolve

    options = TaskOptions(
        data_dir=data_dir,
        limit=limit,
        seed=seed,
        lengths=tuple(o.integers(lengths, "length")),
        depths=depths,
        examples=examples,
        haystack=haystack,
        needles=needles,
        ruler_qa=tuple(ruler_qa or ()),
        template=template,
        metric=metric,
    )
    stopping = Stopping(
        samples=samples,
        seconds=None if time_limit is None else o.seconds(time_limit),
        standard_error=target_se,
        rank_correlation=target_rank_correlation,
        published=published_stop,
    )
    memory = None if memory_limit is None else o.gibibytes(memory_limit)
    spec = ModelSpec(model, revision, dtype, device, device_map, trust_remote_code)
    with o.workers(engine, workers, address, spec) as (pool, loaded):
        folder = out or default_folder(loaded, wanted)
        game = make_game(
            loaded,
            resolve(wanted, loaded, options),
            utility,
            window=window,
            encoding=Encoding(max_length, question_agnostic),
            memory_limit=memory if memory is not None or pool is None else pool.memory_limit(),
            spill_folder=folder,
            workers=pool,
        )
        with progress_bar(o.progress_console, "Profiling", "evaluations") as progress:
            values = profile(
                game, folder, estimator=estimator, sampling=sampling, seed=seed, stopping=stopping, progress=progress
            )
    print_values(o.console, values)
    if game.prompts.spilled:
        o.console.print(
            f"{game.prompts.spilled} of {len(game.rows)} prompts lay in a file; --memory-limit can keep more in memory."
        )
    o.tell(f"Ledger and head values are in {folder}")
