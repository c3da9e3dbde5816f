"""`cokv-bench tune`: the knobs of the methods, chosen on the profile split."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.budget import only_tokens
from cokv_bench.cli import options as o
from cokv_bench.cli.groups import Only, grouped
from cokv_bench.cli.progress import Callback, progress_bar
from cokv_bench.files import check_target
from cokv_bench.models.spec import ModelSpec
from cokv_bench.option import gibibytes
from cokv_bench.runs.grid import PAPERS, Grid
from cokv_bench.runs.heads import HeadSources
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.options import TaskOptions

_OWN_HELP = {
    "budgets": "Tokens kept per KV head on average, window included; comma separated.",
    "window": "Try this observation window alone; part of the budget. Default: several windows.",
}
METHODS = ("streaming-llm", "h2o", "snapkv", "pyramidkv", "ada-snapkv", "ada-pyramid", "headkv", "cokv")


@grouped
def tune_knobs(
    model: ModelSpec,
    tasks: TaskOptions,
    encoding: Encoding,
    heads: Annotated[HeadSources, Only("heads", "budget_files", "profiles", "head_scores")],
    grid: Annotated[Grid, Only("methods", "budgets", "window", help=_OWN_HELP)] = Grid(  # noqa: B008 - frozen
        METHODS, (64, 128, 256, 512), knobs=PAPERS
    ),
    utility: Annotated[
        str, typer.Option(help="What decides: loglik (fast), metric, agreement or acceptance (need no labels).")
    ] = "loglik",
    memory_limit: o.MemoryLimit = None,
    out: Annotated[Path | None, typer.Option(help="File to write. Default: profiles/<model>/knobs.json.")] = None,
) -> None:
    """Choose the knobs of each method (window, kernel, alpha, beta, safeguard, sinks) per benchmark and budget.

    The examples are those of the profile split, which no evaluation uses. Each is prefilled once, and all settings are
    scored on it as one batch; with --window that window alone is tried. The file goes to `cokv-bench eval --knobs
    FILE`; benchmarks that it already holds stay in it, and so do methods that were tried on the same examples. A file
    whose curves have other settings, or would be lost, is refused.
    """
    o.check_tasks(tasks)
    o.check_methods(grid.methods)
    o.check_names("utilities", [utility])
    budgets = only_tokens(grid.budgets, "tune")

    from cokv_bench.budgets.knobs import Knobs, Options
    from cokv_bench.cli.knobs import print_knobs
    from cokv_bench.game.head_game import make_game
    from cokv_bench.game.profile import default_folder
    from cokv_bench.policies import Policy, find_method
    from cokv_bench.policies.names import each_once
    from cokv_bench.runs.request import Request
    from cokv_bench.runs.sources import static_budgets
    from cokv_bench.runs.tuning import kept, largest_window, merged, tunable, tune, untried
    from cokv_bench.tasks import Task
    from cokv_bench.tasks.registry import family_of, resolve

    request = Request(grid, tasks, encoding, heads)
    request.check()
    methods = tunable(each_once(grid.methods))
    loaded = o.load(model)
    path = out or default_folder(loaded, ["knobs"]).with_suffix(".json")
    every = resolve(tasks.names, loaded, tasks)
    names = [task.name for task in every]
    static = {
        each: static_budgets(each, loaded, budgets, names, window=grid.window, published_rounding=False, sources=heads)
        for each in methods
        if find_method(each).rule is not None
    }
    base = request.shared.ranking()["window"]
    benchmarks: dict[str, list[Task]] = {}
    for task in every:
        benchmarks.setdefault(family_of(task.name).knobs(task.name), []).append(task)
    found = kept(path, Knobs(loaded.fingerprint, base, encoding.question_agnostic, {}), utility, benchmarks)
    for benchmark, mine in benchmarks.items():

        def make(method: str, knobs: Options, task: str = mine[0].name) -> Policy:
            return request.policy(method, static.get(method, {}).get(task), knobs)

        game = make_game(
            loaded,
            mine,
            utility,
            window=largest_window(methods, base, grid.window),
            encoding=encoding,
            memory_limit=None if memory_limit is None else gibibytes(memory_limit),
            spill_folder=path.parent,
            needs=frozenset().union(*(find_method(each).needs for each in methods)),
        )
        earlier = found.benchmarks.get(benchmark)
        hashes = {each: found[mine[0].name].file for each, found in static.items()}
        left = untried(path, earlier, game, methods, budgets, hashes, grid.window)
        if left:
            check_target(path)
            with progress_bar(o.progress_console, "Tuning", "pass") as progress:
                tell = partial(_tell, progress, benchmark)
                hashes = {each: hashes[each] for each in left if each in hashes}
                tuning = tune(game, left, budgets, make, window=grid.window, heads=hashes, progress=tell)
            found = replace(found, benchmarks={**found.benchmarks, benchmark: merged(earlier, tuning)})
            found.save(path)
        # The next one begins by measuring what memory is free.
        del game
    print_knobs(found)
    o.tell(f"Knobs and their curves are in {path}")


def _tell(progress: Callback, benchmark: str, done: int, total: int) -> None:
    progress(done, total, benchmark)
