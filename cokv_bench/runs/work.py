"""What a step of a reproduction does: its prompts and answers, counted without a model and without downloads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from cokv_bench.errors import RequestError, quoted, unknown
from cokv_bench.lists import split as split_list
from cokv_bench.runs.estimate import Load
from cokv_bench.tasks import Split
from cokv_bench.tasks.base import PROFILE_SHARE, REPORT_SHARE
from cokv_bench.tasks.longbench.sizes import published_rows
from cokv_bench.tasks.longbench.specs import spec_of
from cokv_bench.tasks.made.task import DEFAULT_EXAMPLES
from cokv_bench.tasks.names import expand
from cokv_bench.tasks.needle import task as needle
from cokv_bench.tasks.rows import own as jsonl
from cokv_bench.tasks.rows.own import JsonlTask
from cokv_bench.tasks.ruler import FROM_FILE
from cokv_bench.tasks.ruler import subtasks as ruler
from cokv_bench.tasks.text import task as text

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
    lengths = integers(options.get("lengths", 1024))
    if command == "headkv_scores":
        found.loads = [Load(_integer(options.get("examples", 16)), length, 1, 1) for length in lengths]
        return found
    split: Split = options.get("split", "test") if command == "eval" else "profile"
    if split not in get_args(Split):
        raise unknown("split", str(split), get_args(Split))
    budgets, methods = integers(options.get("budget", 128)), names(options.get("method", ""))
    for task in dict.fromkeys(_tasks(options)):
        try:
            made = _made(task, options)
            sizes = lengths if made is not None else [_longest(options)]
            new, examples = made or _of_rows(task, options, counted, split, found)
        except _UncountedError as error:
            found.uncounted[task] = str(error)
            continue
        for size in sizes:
            if command == "eval":
                rows = sum(1 if method == "full" else len(budgets) for method in methods)
                found.loads.append(Load(examples, size, rows, new, accumulated="h2o" in methods))
            else:
                found.loads.append(Load(examples, size, 2 * _integer(options.get("samples", 240)), new))
    return found


class _UncountedError(Exception):
    """Why nobody knows how many prompts a task has, or how long they are."""


def _tasks(options: Options) -> Iterator[str]:
    """The tasks of a step, groups taken apart.

    Raises:
        RequestError: an unknown name.
    """
    files = names(options.get("ruler-qa", []))
    for name in names(options.get("tasks", "needle")):
        # Each file makes one of the subtasks; which one only the file tells, but they cost the same.
        yield from expand(name, list(FROM_FILE)[: len(files)] if name == "ruler" else FROM_FILE if files else ())


def _made(task: str, options: Options) -> tuple[int, int] | None:
    """The most tokens of an answer, and the examples a length and split, of a task that makes them; None for rows."""
    if task == "needle":
        new_tokens, examples = needle.MAX_NEW_TOKENS, options.get("depths", needle.DEFAULT_DEPTHS)
    elif task == "text":
        new_tokens, examples = text.MAX_NEW_TOKENS, DEFAULT_EXAMPLES
    elif task.startswith(ruler.PREFIX):
        new_tokens, examples = ruler.max_new_tokens(task.removeprefix(ruler.PREFIX)), DEFAULT_EXAMPLES
    else:
        return None
    return new_tokens, _integer(options.get("examples", options.get("limit", examples)))


def _longest(options: Options) -> int:
    """Tokens to which prompts made of rows are cut."""
    if "max-length" not in options:
        raise _UncountedError("without 'max-length' the length of its prompts is the data's and the model's")
    return _integer(options["max-length"])


def _of_rows(task: str, options: Options, counted: Mapping[str, int], split: Split, found: Work) -> tuple[int, int]:
    """As `_made`, of a task of rows."""
    held, limit = counted.get(task), options.get("limit")
    if task.startswith(jsonl.PREFIX):
        own = _own_rows(task, options)
        new_tokens = own.rules.max_new_tokens
        if held is None:
            return new_tokens, _count(own, split)
    else:
        new_tokens = spec_of(task).max_new_tokens
        if held is None:
            found.published.append(task)
            held = published_rows(task)
    mine, reported = round(held * PROFILE_SHARE), round(held * REPORT_SHARE)
    examples = {"profile": mine, "report": reported, "test": held - mine - reported, "all": held}[split]
    return new_tokens, examples if limit is None else min(examples, _integer(limit))


def _own_rows(task: str, options: Options) -> JsonlTask:
    """The user's own rows, not read yet."""
    limit = options.get("limit")
    try:
        return JsonlTask(
            task,
            template=None if "template" not in options else str(options["template"]),
            metric=None if "metric" not in options else str(options["metric"]),
            limit=None if limit is None else _integer(limit),
            seed=_seed(options),
        )
    except RequestError as error:
        raise _UncountedError(str(error).rstrip(".")) from None


def _seed(options: Options) -> int:
    seed = options.get("seed", 0)
    return 0 if str(seed).strip() == "0" else _integer(seed)


def _count(own: JsonlTask, split: Split) -> int:
    if own.source.startswith(jsonl.HUB):
        raise _UncountedError("its rows are on the hub, and a dry run downloads nothing")
    try:
        return len(own.examples(split))
    except RequestError as error:
        raise _UncountedError(str(error).rstrip(".")) from None


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
