"""`cokv-bench tune`: the knobs of the methods, chosen on the profile split."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.progress import Callback, progress_bar

METHODS = "streaming-llm,h2o,snapkv,pyramidkv,ada-snapkv,ada-pyramid,headkv,cokv"


def tune_knobs(
    model: o.ModelName = "smollm2-135m",
    method: Annotated[str, typer.Option(help="Methods, comma separated; those without a knob are left out.")] = METHODS,
    budget: Annotated[
        str, typer.Option(help="Tokens kept per KV head on average, window included; comma separated.")
    ] = "64,128,256,512",
    tasks: Annotated[
        str, typer.Option(help="Tasks whose profile split decides, each benchmark for itself; comma separated.")
    ] = "needle",
    utility: Annotated[
        str, typer.Option(help="What decides: loglik (fast), metric or agreement (needs no labels).")
    ] = "loglik",
    profile: Annotated[
        list[Path] | None, typer.Option(help="CoKV: head values; default those of the embedded model.")
    ] = None,
    head_scores: Annotated[
        Path | None, typer.Option(help="HeadKV: head scores; default those of the embedded model.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write. Default: profiles/<model>/knobs.json.")] = None,
    seed: o.Seed = 0,
    window: Annotated[
        int | None, typer.Option(min=1, help="The only observation window that is wanted. Default: several are tried.")
    ] = None,
    memory_limit: Annotated[
        float | None,
        typer.Option(help="GiB for prompts and batches. Default: 60% of what is free; prompts beyond go to a file."),
    ] = None,
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
    revision: o.Revision = None,
    dtype: o.Dtype = None,
    device: o.Device = None,
    device_map: o.DeviceMap = None,
    trust_remote_code: o.TrustRemoteCode = False,
) -> None:
    """Choose the knobs of each method (window, kernel, alpha, beta, safeguard, sinks) per benchmark and budget.

    The examples are those of the profile split, which no evaluation uses. Each is prefilled once, and all settings are
    scored on it as one batch. The file goes to `cokv-bench eval --knobs FILE`; benchmarks that it already holds
    stay in it, and those tried on the same examples are not tried again.
    """
    wanted, asked = o.names(tasks, "task"), o.names(method, "method")
    o.check_tasks(wanted, ruler_qa)
    o.check_names("methods", asked)
    o.check_names("utilities", [utility])
    o.check_names("metrics", [] if metric is None else [metric])

    from cokv_bench.budgets.knobs import Knobs, Options
    from cokv_bench.cli.knobs import print_knobs
    from cokv_bench.game.head_game import make_game
    from cokv_bench.game.profile import default_folder
    from cokv_bench.policies import Policy
    from cokv_bench.runs.request import Request
    from cokv_bench.runs.sources import STATIC_METHODS, Sources, static_budgets
    from cokv_bench.runs.tuning import is_done, kept, largest_window, tunable, tune
    from cokv_bench.tasks import Task
    from cokv_bench.tasks.prompts import Encoding
    from cokv_bench.tasks.registry import TaskOptions, family_of, resolve

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
    request = Request([], asked, o.integers(budget, "budget"), seed=seed, window=window, knobs="papers")
    request.check()
    methods = tunable(asked)
    loaded = o.load(
        model,
        revision=revision,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
    )
    path = out or default_folder(loaded, ["knobs"]).with_suffix(".json")
    sources = Sources(profiles=tuple(profile or ()), head_scores=head_scores)
    every = resolve(wanted, loaded, options)
    names = [task.name for task in every]
    static = {
        each: static_budgets(
            each, loaded, request.budgets, names, window=window, published_rounding=False, sources=sources
        )
        for each in methods
        if each in STATIC_METHODS
    }
    base = request.ranking()["window"]
    found = kept(path, Knobs(loaded.fingerprint, base, utility, question_agnostic, {}))
    benchmarks: dict[str, list[Task]] = {}
    for task in every:
        benchmarks.setdefault(family_of(task.name).knobs(task.name), []).append(task)
    for benchmark, mine in benchmarks.items():

        def make(method: str, knobs: Options, task: str = mine[0].name) -> Policy:
            return request.policy(method, static.get(method, {}).get(task), knobs)

        game = make_game(
            loaded,
            mine,
            utility,
            window=largest_window(methods, base) if window is None else window,
            encoding=Encoding(max_length, question_agnostic),
            memory_limit=None if memory_limit is None else o.gibibytes(memory_limit),
            spill_folder=path.parent,
            accumulated_attention=any(request.policy(each, None).needs_accumulated_attention for each in methods),
        )
        if not is_done(found.benchmarks.get(benchmark), game, methods, request.budgets):
            with progress_bar(o.progress_console, "Tuning", "passes over an example") as progress:
                tell = partial(_tell, progress, benchmark)
                heads = {each: sources[mine[0].name].file for each, sources in static.items()}
                tuning = tune(game, methods, request.budgets, make, window=window, heads=heads, progress=tell)
            found = replace(found, benchmarks={**found.benchmarks, benchmark: tuning})
            found.save(path)
    print_knobs(o.console, found)
    o.tell(f"Knobs and their curves are in {path}")


def _tell(progress: Callback, benchmark: str, done: int, total: int) -> None:
    progress(done, total, benchmark)
