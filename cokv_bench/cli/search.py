"""`cokv-bench search`: the split of a total over the heads that serves best, searched at that total."""

from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.progress import progress_bar

STOP = "When to stop (the first that is met)"


def search_budgets(
    model: o.ModelName = "smollm2-135m",
    tasks: Annotated[str, typer.Option(help="Tasks to search on, comma separated; all count alike.")] = "needle",
    budget: Annotated[
        str, typer.Option(help="Tokens a KV head on average, window included; several are searched as one.")
    ] = "64",
    utility: Annotated[
        str,
        typer.Option(help="agreement (needs no labels) or loglik; both, with a comma, count alike."),
    ] = "agreement",
    steps: Annotated[
        int | None, typer.Option(help="Steps. Default: 200, or no end with a time limit.", rich_help_panel=STOP)
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="Time of all calls, such as 90s, 15m or 2h.", rich_help_panel=STOP)
    ] = None,
    memory_limit: Annotated[
        float | None, typer.Option(help="GiB for prompts. Default: 60% of what is free; those beyond go to a file.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: profiles/<model>/<tasks>-search.")] = None,
    seed: o.Seed = 0,
    window: o.Window = 8,
    kernel: Annotated[int, typer.Option(min=1, help="Width of the pooling over window scores.")] = 7,
    pooling: Annotated[str, typer.Option(help="Pooling over window scores: max or avg.")] = "max",
    data_dir: o.DataDir = None,
    limit: o.Limit = None,
    max_length: o.MaxLength = None,
    question_agnostic: o.QuestionAgnostic = False,
    lengths: o.Lengths = "1024",
    depths: o.Depths = 10,
    examples: o.Examples = 60,
    haystack: o.Haystack = None,
    needles: o.Needles = None,
    ruler_qa: o.RulerQa = None,
    template: o.Template = None,
    metric: o.Metric = None,
    revision: o.Revision = None,
    dtype: o.Dtype = None,
    device: o.Device = None,
    device_map: o.DeviceMap = None,
    trust_remote_code: o.TrustRemoteCode = False,
) -> None:
    """Search how the KV heads should share a budget, on the profile split of some tasks, and write budget files.

    Gradient ascent on the answers' log-probability at the deployed total. A stopped search goes on with the same
    command.
    """
    wanted, budgets, utilities = o.names(tasks, "task"), o.integers(budget, "budget"), o.names(utility, "utility")
    o.check_tasks(wanted, ruler_qa)
    o.check_names("utilities", utilities)
    o.check_names("metrics", [] if metric is None else [metric])

    from cokv_bench.cli.tables import print_budgets
    from cokv_bench.game.profile import default_folder
    from cokv_bench.search import SearchExamples, SearchLimits, search
    from cokv_bench.search.search import budget_file
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
    stopping = SearchLimits(steps, None if time_limit is None else o.seconds(time_limit))
    loaded = o.load(
        model,
        revision=revision,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
    )
    folder = default_folder(loaded, wanted)
    folder = out or folder.with_name(f"{folder.name}-search")
    material = SearchExamples(
        loaded,
        resolve(wanted, loaded, options),
        utilities,
        window=window,
        kernel=kernel,
        pooling=pooling,
        encoding=Encoding(max_length, question_agnostic),
        memory_limit=None if memory_limit is None else o.gibibytes(memory_limit),
        spill_folder=folder,
    )
    with progress_bar(o.progress_console, "Searching", "steps") as progress:
        shares = search(material, folder, budgets, seed=seed, stopping=stopping, progress=progress)
    print_budgets(o.console, budget_file(shares, budgets[0]))
    closed = ", ".join(f"{share:.0%} at {known}" for known, share in shares.search["gap_closed"].items())
    o.tell(
        f"Of the gap between equal shares and the full cache, the examples to choose on say, {closed} is closed.\n"
        f"Budgets, shares and the search's ledger are in {folder}"
    )
