"""Tasks by their names on the command line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cokv_bench.tasks.base import Task
from cokv_bench.tasks.longbench import LongBenchTask
from cokv_bench.tasks.names import expand
from cokv_bench.tasks.needle.task import NeedleTask
from cokv_bench.tasks.rows import own as jsonl
from cokv_bench.tasks.rows.own import JsonlTask
from cokv_bench.tasks.ruler import FROM_FILE, SUBTASKS, RulerTask, read_qa
from cokv_bench.tasks.ruler.qa import Documents
from cokv_bench.tasks.ruler.subtasks import PREFIX as RULER
from cokv_bench.tasks.text import TextTask

if TYPE_CHECKING:
    from cokv_bench.models import Model

DESCRIPTIONS = {
    "needle": "a fact hidden in a text of a given length and depth, then asked for (embedded text)",
    "text": "a text, then the first words of a passage of it to go on with; no labels (embedded text)",
    "ruler": f"the {len(SUBTASKS)} subtasks of RULER that are made up at any length, and those from your file",
    **{f"ruler/{name}": f"RULER: {subtask.description}" for name, subtask in SUBTASKS.items()},
    **{f"ruler/{name}": f"RULER: {description}" for name, description in FROM_FILE.items()},
    "longbench": "the 16 English and code tasks that the papers report",
    "longbench/all": "all 21 tasks of LongBench",
    "longbench-e": "the 13 tasks of LongBench-E, with even shares of lengths",
    "longbench/NAME": "one task, such as longbench/hotpotqa or longbench/hotpotqa_e",
    "jsonl:PATH": "your own rows in LongBench's schema, as JSONL, or a YAML file that names data, template and metric",
}


@dataclass(frozen=True)
class TaskOptions:
    """What the command line says about tasks; each task takes what concerns it.

    Attributes:
        data_dir: LongBench data (folder or data.zip); None looks at COKV_BENCH_DATA, then the hub.
        limit: the most examples a task.
        seed: fixes the split, the needles and what RULER draws.
        lengths, examples: Needle in a Haystack, RULER and text; examples is per length.
        haystack: Needle in a Haystack and text.
        depths, needles: Needle in a Haystack.
        ruler_qa: files of questions for ruler/qa_1 and ruler/qa_2.
        template, metric: for `jsonl:` rows.
    """

    data_dir: Path | None = None
    limit: int | None = None
    seed: int = 0
    lengths: tuple[int, ...] = (1024,)
    depths: int = 10
    examples: int | None = None
    haystack: Path | None = None
    needles: Path | None = None
    ruler_qa: tuple[Path, ...] = ()
    template: str | None = None
    metric: str | None = None

    @property
    def examples_a_length(self) -> int | None:
        """Of a task that makes examples up; None: as many as the task makes by default."""
        return self.limit if self.examples is None else self.examples


def resolve(names: list[str], model: "Model", options: TaskOptions) -> list[Task]:
    """The tasks behind command-line names, in order and without repeats.

    Raises:
        RequestError: an unknown name, or options that a task refuses.
    """
    tasks: dict[str, Task] = {}
    qa = read_qa(options.ruler_qa)
    for name in names:
        for full in expand(name, qa):
            task = _task(full, model, options, qa)
            tasks.setdefault(task.name, task)
    return list(tasks.values())


def _task(name: str, model: "Model", options: TaskOptions, qa: Mapping[str, Documents]) -> Task:
    """The task of a full name."""
    if name == "needle":
        return _needle(model, options)
    if name == "text":
        return _text(model, options)
    if name.startswith(jsonl.PREFIX):
        path = Path(name.removeprefix(jsonl.PREFIX))
        return JsonlTask(path, template=options.template, metric=options.metric, limit=options.limit, seed=options.seed)
    if name.startswith(RULER):
        return _ruler(name.removeprefix(RULER), model, options, qa)
    return LongBenchTask(name, data_dir=options.data_dir, seed=options.seed, limit=options.limit)


def _needle(model: "Model", options: TaskOptions) -> NeedleTask:
    return NeedleTask(
        model.text_tokenizer,
        encode_length=_chat_length(model),
        lengths=options.lengths,
        depths=options.depths,
        examples=options.examples_a_length,
        haystack=options.haystack,
        needles=options.needles,
        seed=options.seed,
    )


def _text(model: "Model", options: TaskOptions) -> TextTask:
    from cokv_bench.models import encode  # On first use: importing torch takes seconds.

    return TextTask(
        model.text_tokenizer,
        encode_length=lambda text: len(encode(model, text, chat=False)),
        lengths=options.lengths,
        examples=options.examples_a_length,
        folder=options.haystack,
        seed=options.seed,
    )


def _ruler(subtask: str, model: "Model", options: TaskOptions, qa: Mapping[str, Documents]) -> RulerTask:
    return RulerTask(
        subtask,
        model.text_tokenizer,
        encode_length=_chat_length(model),
        lengths=options.lengths,
        examples=options.examples_a_length,
        seed=options.seed,
        qa=qa,
    )


def _chat_length(model: "Model") -> Callable[[str], int]:
    """Number of tokens of a prompt, chat template included."""
    from cokv_bench.models import encode  # As in `_text`.

    return lambda text: len(encode(model, text, chat=True))
