"""What several commands share: the console, options of no group, and how models and workers are loaded."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cokv_bench.engines.check import check_engine as check_engine
from cokv_bench.engines.options import EngineOptions
from cokv_bench.files import write_json
from cokv_bench.registries import ENGINES
from cokv_bench.tasks.options import TaskOptions

if TYPE_CHECKING:
    from cokv_bench.engines.ray import RayWorkers
    from cokv_bench.models import Model
    from cokv_bench.models.spec import ModelSpec

console = Console()
progress_console = Console(stderr=True)

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be done (counts, memory, rough time) and stop.")
]
Window = Annotated[int, typer.Option(min=1, help="Last prompt tokens that every head keeps; part of the budget.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the numbers to this JSON file.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the splits, the needles and the sampling.")]
MemoryLimit = Annotated[
    float | None,
    typer.Option(
        help="GiB for prompts and batches; more prompts go to a file. Default: 60% of free memory, 30% of a GPU's."
    ),
]


def tell(line: str) -> None:
    """Print a sentence as it is: what looks like markup in a name or a path is none."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def note(line: str) -> None:
    """Say on standard error what is going on, as it is."""
    progress_console.print(line, highlight=False, markup=False, soft_wrap=True)


def save_figures(file: Path | None, figures: Mapping[str, Any]) -> None:
    """Write figures into the `JsonFile` that was asked for, if one was."""
    if file is not None:
        write_json(file, figures)


def print_table(
    title: str,
    header: Sequence[str],
    *sections: Iterable[Sequence[str | Text]],
    words: Sequence[str] = (),
    wide: bool = False,
) -> None:
    """Print rows of cells as they are, folded where the terminal is narrow.

    Args:
        sections: rows, with a line between one section and the next.
        words: columns to the left; the others have numbers and stand to the right.
        wide: of many columns: nothing is drawn between them, and numbers are never folded.
    """
    room: dict[str, Any] = {"box": box.SIMPLE_HEAD, "collapse_padding": True, "pad_edge": False} if wide else {}
    table = Table(title=Text(title), title_justify="left", **room)
    for name in header:
        left = name in words
        table.add_column(name, justify="left" if left else "right", overflow="fold", no_wrap=wide and not left)
    for section in sections:
        table.add_section()
        for row in section:
            table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    console.print(table)


def check_names(kind: str, names: Sequence[str]) -> None:
    """Refuse a name that a list of `cokv-bench ls` does not have, before PyTorch or a model is loaded.

    Raises:
        RequestError: with the nearest names.
    """
    from cokv_bench.catalogue import check

    check(kind, names)


def check_methods(methods: Sequence[str]) -> None:
    """Refuse unknown methods, and options in their names that they do not take, before a model is loaded.

    Raises:
        RequestError: with the nearest names, or what the method takes.
    """
    check_names("methods", methods)
    if any(":" in method for method in methods):
        from cokv_bench.policies.registry import find_method  # Options are those of classes, which need PyTorch.

        for method in methods:
            find_method(method)


def check_tasks(options: TaskOptions) -> None:
    """The same for tasks and their metric.

    Raises:
        RequestError: with the nearest names, or a task needs a file which is not given.
    """
    from cokv_bench.tasks.registry import check

    check(options.names, options)
    check_names("metrics", [] if options.metric is None else [options.metric])


def load(spec: "ModelSpec", *, runs: bool = True, threads: bool = True) -> "Model":
    """Load a model, saying so, since the first load of the embedded one takes a while.

    Args:
        runs: whether it runs in this process, which it is checked for.
        threads: whether, running here on a CPU, it gets the number of threads that is asked for or fastest.
    """
    from transformers.utils import logging

    from cokv_bench.kvcache.check import verify
    from cokv_bench.models.greedy import in_words
    from cokv_bench.models.threads import choose, take

    logging.disable_progress_bar()
    if runs and threads and spec.on_cpu:
        chosen = choose(spec.threads)
        take(chosen)
        note(f"Loading {spec.name} on {chosen.told} ...")
    else:
        note(f"Loading {spec.name} ...")
    model = spec.load()
    if model.ignored_generation_settings:
        note(
            f"generation_config.json of {spec.name} sets {in_words(model.ignored_generation_settings)}; evaluation is "
            "plain greedy decoding and leaves it out."
        )
    if runs:
        verify(model)
    return model


@contextmanager
def workers(options: EngineOptions, spec: "ModelSpec") -> "Iterator[tuple[RayWorkers | None, Model]]":
    """The workers that an engine has (None for this process alone), and the model in this process.

    Beside Ray's workers, this process plans and writes only: its model lies on the CPU, in the workers' dtype.

    Raises:
        RequestError: the model cannot be loaded or fails its check, or there are not that many places for workers.
    """
    start = ENGINES.get(options.engine).start
    if start is None:
        yield None, load(spec)
        return
    note(f"Starting {options.engine} ...")
    with start(spec, options.workers, options.address) as started:
        yield started, load(replace(spec, dtype=started.dtype(), device="cpu", device_map=None), runs=False)
