"""`cokv-bench inspect`: one of our files or folders on one screen."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cokv_bench.cli import options as o

if TYPE_CHECKING:
    from cokv_bench.budgets import HeadFile
    from cokv_bench.report.folders import Bench, Run


def inspect(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="Budgets, values, shares, head scores, curves or knobs, or the folder of a profile, search, run or "
            "benchmark. Default: the embedded model's profile."
        ),
    ] = None,
    budget: Annotated[int, typer.Option(min=1, help="Budget at which values, shares and head scores are shown.")] = 128,
) -> None:
    """Summarise a budget, profile or run on one screen."""
    from cokv_bench.budgets import load_head_file
    from cokv_bench.budgets.checked_json import kind_of
    from cokv_bench.budgets.embedded import values_path
    from cokv_bench.budgets.knobs import KIND, Knobs
    from cokv_bench.cli.knobs import print_knobs
    from cokv_bench.report.folders import BENCH, read_folders

    shown = path or values_path()
    if (shown / "run.json").is_file() or (shown / BENCH).is_file():
        _show_folder(*read_folders([shown]))
    elif kind_of(shown) == KIND:
        print_knobs(Knobs.load(shown))
    else:
        _show_heads(shown, load_head_file(shown), budget)


def _show_folder(runs: "Sequence[Run]", benches: "Sequence[Bench]") -> None:
    from cokv_bench.cli.outcome import print_unfinished
    from cokv_bench.report.costs import benchmarks
    from cokv_bench.report.layout import lay_out
    from cokv_bench.report.terminal import print_lines, print_scores
    from cokv_bench.scores.units import PERCENT, capital

    for run in runs:
        settings = run.configuration
        _tell("Run" if run.unit is PERCENT else capital(run.unit.plural), run.folder)
        _tell("Model", settings["model"]["id"])
        _tell("Settings", ", ".join(f"{name} {settings[name]}" for name in ("split", "window", "seed", "max_length")))
        _tell(
            "Answers" if run.unit is PERCENT else "Measured",
            f"{len(run.records)}, of {len(settings['tasks'])} tasks and {len(settings['methods'])} methods",
        )
        print_unfinished(run)
        print_scores(o.console, lay_out(run.tables, settings, run.unit), run.unit)
    for bench in benches:
        _tell("Benchmark", bench.folder)
    group = benchmarks(benches)
    if group is not None:
        print_lines(o.console, group.figures)


def _show_heads(path: Path, file: "HeadFile", budget: int) -> None:
    from cokv_bench.cli.tables import print_heads
    from cokv_bench.report.head_figures import head_figures
    from cokv_bench.report.heads import head_map
    from cokv_bench.report.terminal import print_maps

    model = file.model
    _tell("File", path)
    _tell("Model", f"{model['id']}, {model['layers']} layers, {model['kv_heads']} KV heads of size {model['head_dim']}")
    _tell("Made on", f"{', '.join(file.tasks) or 'unknown tasks'}; {len(file.examples)} examples")
    print_heads(file)
    group = head_figures([head_map(path.name, file)], [budget] if file.only_budget is None else [])
    if group is not None:
        print_maps(o.console, group)


def _tell(what: str, value: object) -> None:
    o.tell(f"{what}: {value}")
