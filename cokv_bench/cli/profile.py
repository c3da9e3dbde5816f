"""`cokv-bench profile`: what each KV head is worth, from coalitions of heads."""

from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.progress import progress_bar


def profile_heads(
    model: o.ModelName = "smollm2-135m",
    tasks: Annotated[str, typer.Option(help="Tasks to profile on, comma separated.")] = "needle",
    samples: Annotated[int, typer.Option(min=1, help="Pairs of a coalition and its complement.")] = 240,
    utility: Annotated[str, typer.Option(help="loglik (fast) or metric (as published).")] = "loglik",
    estimator: Annotated[
        str, typer.Option(help="ridge (least noisy) or ssv (as published); see `cokv-bench ls estimators`.")
    ] = "ridge",
    out: Annotated[Path | None, typer.Option(help="Folder. Default: profiles/<model>/<tasks>.")] = None,
    seed: o.Seed = 0,
    window: o.Window = 8,
    data_dir: o.DataDir = None,
    limit: o.Limit = None,
    max_length: o.MaxLength = None,
    lengths: o.Lengths = "1024",
    depths: o.Depths = 10,
    examples: o.Examples = None,
    haystack: o.Haystack = None,
    needles: o.Needles = None,
    template: o.Template = None,
    metric: o.Metric = None,
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
    from cokv_bench.cli.tables import print_values
    from cokv_bench.game.profile import default_folder, make_game, profile
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
        template=template,
        metric=metric,
    )
    wanted = o.names(tasks, "task")
    loaded = o.load(
        model,
        revision=revision,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
    )
    game = make_game(loaded, resolve(wanted, loaded, options), utility, window=window, max_length=max_length)
    folder = out or default_folder(loaded, wanted)
    with progress_bar(o.progress_console, "Profiling") as progress:
        values = profile(game, folder, estimator=estimator, samples=samples, seed=seed, progress=progress)
    print_values(o.console, values)
    o.console.print(f"Ledger and head values are in {folder}", highlight=False, soft_wrap=True)
