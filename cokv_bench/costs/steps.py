"""What a step of a reproduction does: its prompts and answers, counted without a model and without downloads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from cokv_bench.costs.estimate import Load
from cokv_bench.errors import RequestError, quoted, unknown
from cokv_bench.lists import split as split_list
from cokv_bench.tasks import Split
from cokv_bench.tasks.family import UncountedError
from cokv_bench.tasks.options import DEFAULT_TASK, TaskOptions
from cokv_bench.tasks.registry import expand, family_of

Options = Mapping[str, Any]


@dataclass
class Work:
    """What a step does, as far as it is known.

    Attributes:
        loads: a task and length each.
        published: tasks whose rows the reproduction does not count, so that those of the published files are taken.
        uncounted: tasks that are in no load -> why.
    """

    loads: list[Load] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    uncounted: dict[str, str] = field(default_factory=dict)


def work(command: str, options: Options, counted: Mapping[str, int]) -> Work:
    """Count what a step does.

    Args:
        command: `profile`, `eval` or `headkv_scores`.
        options: by their names on the command line.
        counted: rows of tasks, all splits together; the splits are taken to have their shares of them.

    Raises:
        RequestError: an unknown task or split.
    """
    found = Work()
    task_options = _task_options(options)
    if command == "headkv_scores":
        needles = task_options.examples or 16
        found.loads = [Load(needles, length, 1, 1) for length in task_options.lengths]
        return found
    split: Split = options.get("split", "test") if command == "eval" else "profile"
    if split not in get_args(Split):
        raise unknown("split", str(split), get_args(Split))
    budgets, methods = integers(options.get("budget", 128)), names(options.get("method", ""))
    tasks = names(options.get("tasks", DEFAULT_TASK))
    for task in dict.fromkeys(full for name in tasks for full in expand(name, task_options)):
        try:
            size = family_of(task).size(task, task_options, split, counted.get(task))
            lengths = size.lengths or (_longest(options),)
        except UncountedError as error:
            found.uncounted[task] = str(error)
            continue
        if size.published:
            found.published.append(task)
        for length in lengths:
            if command == "eval":
                rows = sum(1 if method == "full" else len(budgets) for method in methods)
                found.loads.append(Load(size.examples, length, rows, size.new_tokens, accumulated="h2o" in methods))
            else:
                samples = _integer(options.get("samples", 240))
                found.loads.append(Load(size.examples, length, 2 * samples, size.new_tokens))
    return found


def _task_options(options: Options) -> TaskOptions:
    """Options by their names on the command line, as tasks take them.

    Raises:
        RequestError: one that must be a whole number, or a list of them, is something else.
    """
    given = {name.replace("-", "_"): read(options[name]) for name, read in _READ.items() if name in options}
    return TaskOptions(**given)


def _longest(options: Options) -> int:
    """Tokens to which prompts are cut whose length nobody asked for."""
    if "max-length" not in options:
        raise UncountedError("without 'max-length' the length of its prompts is the data's and the model's")
    return _integer(options["max-length"])


def names(value: Any) -> list[str]:
    """A list, or words with commas between them."""
    parts = value if isinstance(value, list) else split_list(str(value))
    return [str(part).strip() for part in parts if str(part).strip()]


def integers(value: Any) -> list[int]:
    """The same of whole numbers above 0.

    Raises:
        RequestError: something else.
    """
    return [_integer(name) for name in names(value)]


def _integer(value: Any) -> int:
    text = str(value).strip()
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) > 0):
        raise RequestError(f"{quoted(value)} in a reproduction is not a whole number above 0, nor a list of them.")
    return int(text)


def _seed(value: Any) -> int:
    return 0 if str(value).strip() == "0" else _integer(value)


def _path(value: Any) -> Path:
    return Path(str(value))


#: How the options about tasks are read, by their names on the command line.
_READ: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("limit", "depths", "examples"), _integer),
    **dict.fromkeys(("data-dir", "haystack", "needles"), _path),
    **dict.fromkeys(("template", "metric"), str),
    "seed": _seed,
    "lengths": lambda value: tuple(integers(value)),
    "ruler-qa": lambda value: tuple(map(Path, names(value))),
}
