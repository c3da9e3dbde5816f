"""Options that several commands share, and how lists are written on the command line."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from cokv_bench.errors import RequestError, quoted, unknown
from cokv_bench.lists import split

if TYPE_CHECKING:
    from cokv_bench.engines.ray import RayWorkers
    from cokv_bench.models import Model
    from cokv_bench.models.spec import ModelSpec

# More of anything fits no model and no memory.
_LARGEST = 2**31

console = Console()
progress_console = Console(stderr=True)

MODEL = "Model"
TASKS = "Tasks"
NEEDLE = "Needle in a Haystack, and RULER (lengths, examples)"
SCALE = "Several GPUs or hosts (docs/cluster.md)"

ModelName = Annotated[
    str, typer.Option("--model", help="Embedded name, model folder or hub id (owner/name).", rich_help_panel=MODEL)
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.", rich_help_panel=MODEL)]
Dtype = Annotated[
    str | None,
    typer.Option(help="float32, bfloat16, float16 or auto. Default: float32 on the CPU.", rich_help_panel=MODEL),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. Default: a GPU if any.", rich_help_panel=MODEL)]
DeviceMap = Annotated[
    str | None, typer.Option(help="Spread a large model, such as 'auto' (accelerate).", rich_help_panel=MODEL)
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that a hub model brings along.", rich_help_panel=MODEL)
]

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="LongBench data: folder of official JSONL or data.zip. Default: $COKV_BENCH_DATA, then the hub.",
        rich_help_panel=TASKS,
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="At most this many examples a task.", rich_help_panel=TASKS)]
MaxLength = Annotated[
    int | None,
    typer.Option(
        min=16,
        help="Cut longer LongBench prompts in the middle to this many tokens. Default: what the model holds.",
        rich_help_panel=TASKS,
    ),
]
QuestionAgnostic = Annotated[
    bool,
    typer.Option(
        "--question-agnostic",
        help="Compress the context alone and append the question afterwards (harder).",
        rich_help_panel=TASKS,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be done: counts, memory, rough time.")]
Seed = Annotated[int, typer.Option(min=0, help="Fixes the split, the needles and the sampling.")]
Template = Annotated[
    str | None, typer.Option(help="Prompt of jsonl: rows, with {context} and {input}.", rich_help_panel=TASKS)
]
Metric = Annotated[str | None, typer.Option(help="Metric of jsonl: rows.", rich_help_panel=TASKS)]

Lengths = Annotated[str, typer.Option(help="Prompt lengths in tokens, comma separated.", rich_help_panel=NEEDLE)]
Depths = Annotated[int, typer.Option(min=1, help="Depths, evenly from 0 to 100 percent.", rich_help_panel=NEEDLE)]
Examples = Annotated[
    int | None,
    typer.Option(
        min=1, help="Needles a length (default: one a depth), or RULER or text examples (10).", rich_help_panel=NEEDLE
    ),
]
Haystack = Annotated[
    Path | None, typer.Option(help="Folder of .txt files instead of the embedded text.", rich_help_panel=NEEDLE)
]
Needles = Annotated[
    Path | None,
    typer.Option(help="JSONL with needle, question, answer instead of the embedded ones.", rich_help_panel=NEEDLE),
]
RulerQa = Annotated[
    list[Path] | None,
    typer.Option(
        "--ruler-qa",
        help="Questions for ruler/qa_1 (SQuAD JSON) or ruler/qa_2 (HotpotQA JSON); once for each.",
        rich_help_panel=NEEDLE,
    ),
]
Window = Annotated[int, typer.Option(min=1, help="Last prompt tokens that every head keeps; part of the budget.")]
Kernel = Annotated[
    int | None,
    typer.Option(
        min=1, help="Width of the pooling over window scores. Default: 7; for cokv-search what it was searched with."
    ),
]
Pooling = Annotated[
    str | None, typer.Option(help="Pooling over window scores: max or avg. Default: max; for cokv-search as searched.")
]
Engine = Annotated[
    str, typer.Option(help="local (this process) or ray (pip install 'cokv-bench\\[ray]').", rich_help_panel=SCALE)
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Ray workers, a model each. Default: one a GPU, or one a host without.", rich_help_panel=SCALE
    ),
]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster: auto, or host:port. Default: Ray on this machine.", rich_help_panel=SCALE),
]


def names(text: str, what: str) -> list[str]:
    """The entries of a comma-separated list, in order, without repeats; one in double quotes may hold commas.

    Raises:
        RequestError: there are none.
    """
    found = list(dict.fromkeys(split(text)))
    if not found:
        raise RequestError(f"No {what} given; name one or several, separated by commas.")
    return found


def integers(text: str, what: str) -> list[int]:
    """A comma-separated list of whole numbers above 0. Raises `RequestError` otherwise."""
    try:
        numbers = [int(part) for part in names(text, what)]
    except ValueError:
        raise RequestError(f"{quoted(text)} is not a list of whole numbers for {what}, such as 64,128.") from None
    for number in numbers:
        if not 0 < number < _LARGEST:
            raise RequestError(f"{quoted(number)} is no {what}; it must be a whole number above 0, and below 2**31.")
    return numbers


def seconds(text: str) -> float:
    """A time such as 90s, 15m or 2h, or a plain number of seconds. Raises `RequestError` otherwise."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not found:
        raise RequestError(f"'{text}' is not a time such as 90s, 15m or 2h.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def gibibytes(number: float) -> int:
    """Bytes. Raises `RequestError` unless the number is above 0."""
    if not 0 < number < math.inf:
        raise RequestError(f"A memory limit of {number} GiB is not above 0.")
    return int(number * 2**30)


def tell(line: str) -> None:
    """Print a sentence as it is: what looks like markup in a name or a path is none."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def check_names(kind: str, names: Sequence[str]) -> None:
    """Refuse a name that a list of `cokv-bench ls` does not have, before PyTorch or a model is loaded.

    Raises:
        RequestError: with the nearest names.
    """
    from cokv_bench.catalogue import check

    check(kind, names)


def check_tasks(names: Sequence[str], ruler_qa: Sequence[Path] | None) -> None:
    """The same for tasks.

    Raises:
        RequestError: with the nearest names, or a task needs a file which is not given.
    """
    from cokv_bench.tasks.registry import TaskOptions, check

    check(names, TaskOptions(ruler_qa=tuple(ruler_qa or ())))


def load(
    name: str,
    *,
    revision: str | None,
    dtype: str | None,
    device: str | None,
    device_map: str | None,
    trust_remote_code: bool,
) -> "Model":
    """Load a model, saying so, since the first load of the embedded one takes a while."""
    from transformers.utils import logging

    from cokv_bench.models import load_model
    from cokv_bench.models.greedy import in_words

    logging.disable_progress_bar()
    progress_console.print(f"Loading {name} ...", highlight=False, markup=False)
    model = load_model(
        name,
        revision=revision,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
    )
    if model.ignored_generation_settings:
        progress_console.print(
            f"generation_config.json of {name} sets {in_words(model.ignored_generation_settings)}; evaluation is plain "
            "greedy decoding and leaves it out.",
            highlight=False,
            markup=False,
        )
    return model


def check_engine(engine: str, count: int | None, address: str | None) -> None:
    """Refuse at once, before anything is loaded, what `workers` cannot be.

    Raises:
        RequestError: an unknown engine, Ray's options without Ray, or Ray is not installed.
    """
    if engine not in ("local", "ray"):
        raise unknown("engine", engine, ["local", "ray"])
    for option, value in (("--workers", count), ("--address", address)):
        if engine == "local" and value is not None:
            raise RequestError(f"{option} {value} is for Ray; add --engine ray.")
    if engine == "ray" and find_spec("ray") is None:
        raise RequestError("--engine ray needs Ray, which is not installed: pip install 'cokv-bench[ray]'")


@contextmanager
def workers(
    engine: str, count: int | None, address: str | None, spec: "ModelSpec"
) -> "Iterator[tuple[RayWorkers | None, Model]]":
    """The workers that an engine has (None for this process alone), and the model in this process.

    Beside Ray's workers, this process plans and writes only: its model lies on the CPU, in the workers' dtype.

    Raises:
        RequestError: the model cannot be loaded, or there are not that many places for workers.
    """
    if engine == "local":
        yield None, load(**asdict(spec))
        return
    from cokv_bench.engines.ray import RayWorkers

    progress_console.print("Starting Ray ...", highlight=False)
    with RayWorkers(spec, count, address) as started:
        here = replace(spec, dtype=started.dtype(), device="cpu", device_map=None)
        yield started, load(**asdict(here))
