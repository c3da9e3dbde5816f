"""What each knob of each method is worth, on profile examples.

python scripts/study_knobs.py KNOBS.json --tasks needle --lengths 1024 --examples 16 --out results/smollm2-135m/knobs

From the file that `cokv-bench tune` wrote, knobs.csv: a row per benchmark, method, budget and setting. The observation
window is one for all methods of a run, so it is no knob of a method; what other windows would be worth is measured
here, with the published settings and with the chosen ones, windows.csv. Utilities are those of the file
(log-probabilities in nats per token).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from cokv_bench.budgets.knobs import Knobs, Options, benchmark_of
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.cli.knobs import print_knobs, shown
from cokv_bench.cli.progress import progress_bar
from cokv_bench.files import write_text
from cokv_bench.game.head_game import Game, make_game
from cokv_bench.kvcache import Prompt, Selection
from cokv_bench.policies import get_policy
from cokv_bench.tasks.prompts import Encoding
from cokv_bench.tasks.registry import TaskOptions, resolve

#: Observation windows; prompts are prefilled once, with the largest.
WINDOWS = (4, 8, 16, 32)
#: Methods without head budgets, which are made for one window.
METHODS = ("snapkv", "pyramidkv", "ada-snapkv", "ada-pyramid")


def main(
    knobs: Annotated[Path, typer.Argument(help="File of `cokv-bench tune`.")],
    model: o.ModelName = "smollm2-135m",
    tasks: Annotated[str, typer.Option(help="Tasks for the study of windows, comma separated.")] = "needle",
    lengths: o.Lengths = "1024",
    examples: o.Examples = None,
    data_dir: o.DataDir = None,
    limit: o.Limit = None,
    max_length: o.MaxLength = None,
    out: Annotated[Path, typer.Option(help="Folder of the tables.")] = Path("results/knobs"),
) -> None:
    """Write what was tried, and measure windows."""
    file = Knobs.load(knobs)
    _write(out / "knobs.csv", curves_table(file))
    loaded = o.load(model, revision=None, dtype=None, device=None, device_map=None, trust_remote_code=False)
    options = TaskOptions(
        data_dir=data_dir,
        limit=limit,
        lengths=tuple(o.integers(lengths, "length")),
        examples=examples,
    )
    every = resolve(o.names(tasks, "task"), loaded, options)
    parts = []
    for benchmark in dict.fromkeys(benchmark_of(task.name) for task in every):
        mine = [task for task in every if benchmark_of(task.name) == benchmark]
        game = make_game(loaded, mine, file.utility, window=max(WINDOWS), encoding=Encoding(max_length))
        parts.append(windows_table(game, file, benchmark))
    windows = pd.concat(parts, ignore_index=True)
    _write(out / "windows.csv", windows)
    print_knobs(o.console, file)
    print(
        windows.pivot_table(
            index=["benchmark", "method", "budget", "settings"], columns="window", values="utility"
        ).round(3)
    )
    # One window serves all methods, so their mean is what a choice of the window goes by.
    print(windows.pivot_table(index=["benchmark", "settings", "budget"], columns="window", values="utility").round(2))
    o.console.print(f"Tables are in {out}", highlight=False)


def curves_table(file: Knobs) -> pd.DataFrame:
    """A row per benchmark, method, budget and setting that was tried; `gain` is over the published setting."""
    rows = []
    for benchmark, tuning in file.benchmarks.items():
        for method, curves in tuning.curves.items():
            for budget, tried in curves.items():
                best = tuning.chosen(method, budget)
                for each in tried:
                    rows.append(
                        {
                            "benchmark": benchmark,
                            "examples": len(tuning.examples),
                            "method": method,
                            "budget": budget,
                            "setting": shown(each.options),
                            "utility": each.utility,
                            "gain": each.utility - tried[0].utility,
                            "chosen": each.options == best,
                        }
                    )
    return pd.DataFrame(rows)


def windows_table(game: Game, file: Knobs, benchmark: str) -> pd.DataFrame:
    """A row per method, budget, window and settings (published or chosen): the mean utility on the game's examples."""
    tuning = file.benchmarks[benchmark]
    budgets = sorted({budget for method in METHODS for budget in tuning.curves.get(method, {})})
    cells: list[tuple[str, int, int, str, Options]] = [
        (method, budget, window, name, options)
        for method in METHODS
        for budget in budgets
        for window in WINDOWS
        if window < budget
        for name, options in (("published", {}), ("chosen", tuning.chosen(method, budget)))
    ]

    def select(prompt: Prompt) -> Sequence[Selection]:
        narrow = {window: _with_window(prompt, window) for window in WINDOWS}
        return [
            get_policy(method, **options).select(narrow[window], budget) for method, budget, window, _, options in cells
        ]

    with progress_bar(o.progress_console, "Windows", "examples") as progress:
        means = game.measure(select, lambda done, total: progress(done, total, benchmark)).mean(axis=1)
    return pd.DataFrame(
        [
            {"benchmark": benchmark, "examples": len(game.rows), "method": method, "budget": budget}
            | {"window": window, "settings": name, "utility": mean}
            for (method, budget, window, name, _), mean in zip(cells, means, strict=True)
        ]
    )


def _with_window(prompt: Prompt, window: int) -> Prompt:
    """The prompt as if it had been prefilled with a smaller window: the last queries alone."""
    queries = [layer[:, -window:] for layer in prompt.window_queries]
    return replace(prompt, window=window, window_queries=queries, memo={})


def _write(path: Path, table: pd.DataFrame) -> None:
    write_text(path, table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))


if __name__ == "__main__":
    run_script(main)
