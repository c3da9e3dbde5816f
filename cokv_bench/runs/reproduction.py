"""A reproduction: commands with their options in a YAML file, and what they will cost."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from cokv_bench.errors import RequestError, unknown
from cokv_bench.runs.estimate import Load, Shape
from cokv_bench.tasks import text
from cokv_bench.tasks.longbench.specs import spec_of
from cokv_bench.tasks.made import DEFAULT_EXAMPLES
from cokv_bench.tasks.needle import task as needle
from cokv_bench.tasks.ruler import FROM_FILE, SUBTASKS, expand
from cokv_bench.tasks.ruler import subtasks as ruler

_KEYS = ("description", "model", "shape", "examples", "tasks", "steps")
_COMMANDS = ("profile", "eval", "headkv_scores")
_PROFILE_SHARE = 0.15


@dataclass(frozen=True)
class Step:
    """A command with its options, by their names on the command line; lists are given once a value or with commas."""

    command: str
    options: Mapping[str, Any]

    @property
    def arguments(self) -> list[str]:
        """The options as arguments. Files and folders of a list are repeated options, other lists have commas."""
        found: list[str] = []
        for name, value in self.options.items():
            if value is True:
                found.append(f"--{name}")
            elif isinstance(value, list) and name in ("profile", "budgets", "ruler-qa"):
                found += [part for each in value for part in (f"--{name}", str(each))]
            else:
                found += [f"--{name}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
        return found


@dataclass(frozen=True)
class Reproduction:
    """What a file asks for.

    Attributes:
        shape: of the model, for estimates; no model is loaded for them.
        examples: number of examples a task, profile and test together, for estimates.
    """

    description: str
    shape: Shape
    examples: Mapping[str, int]
    steps: tuple[Step, ...]

    def loads(self, step: Step) -> list[Load]:
        """What a step does, as far as its options and the numbers of examples say.

        Raises:
            RequestError: an unknown task, or one of rows that nobody counted.
        """
        options = step.options
        lengths = _integers(options.get("lengths", 1024))
        if step.command == "headkv_scores":
            return [Load(int(options.get("examples", 16)), length, 1, 1) for length in lengths]
        budgets, methods = _integers(options.get("budget", 128)), _names(options.get("method", ""))
        found = []
        for task in self._tasks(options):
            made = _made(task, options)
            if made is not None:
                sizes, (new, examples) = lengths, made
            else:
                sizes, new = [int(options.get("max-length", 0)) or lengths[0]], spec_of(task).max_new_tokens
                examples = self._rows(task, options, test=step.command == "eval")
            for size in sizes:
                if step.command == "eval":
                    rows = sum(1 if method == "full" else len(budgets) for method in methods)
                    found.append(Load(examples, size, rows, new, accumulated="h2o" in methods))
                else:
                    found.append(Load(examples, size, 2 * int(options.get("samples", 240)), new))
        return found

    def about(self, step: Step) -> str:
        """The tasks of a step in a few words."""
        tasks = _names(step.options.get("tasks", "needle"))
        return ", ".join(tasks) if len(tasks) < 3 else f"{tasks[0]} and {len(tasks) - 1} more"

    def _tasks(self, options: Mapping[str, Any]) -> list[str]:
        """The tasks of a step; the group "longbench" is those that the file counts."""
        files = _names(options.get("ruler-qa", []))
        found: list[str] = []
        for name in _names(options.get("tasks", "needle")):
            if name == "longbench":
                found += self.examples
            elif name == "ruler":
                # Each file makes one of these subtasks; which one only the file tells, but they cost the same.
                found += [ruler.PREFIX + each for each in (*SUBTASKS, *list(FROM_FILE)[: len(files)])]
            elif name.startswith(ruler.PREFIX):
                found += [ruler.PREFIX + each for each in expand(name, FROM_FILE if files else ())]
            else:
                found.append(name)
        return found

    def _rows(self, task: str, options: Mapping[str, Any], *, test: bool) -> int:
        held = self.examples.get(task)
        if held is None:
            raise RequestError(f"The reproduction does not say under 'examples' how many rows '{task}' has.")
        mine = round(held * _PROFILE_SHARE)
        return min(held - mine if test else mine, int(options.get("limit", held)))


def _made(task: str, options: Mapping[str, Any]) -> tuple[int, int] | None:
    """The most tokens of an answer, and the examples a length and split, of a task that makes them; None for rows."""
    if task == "needle":
        new_tokens, examples = needle.MAX_NEW_TOKENS, options.get("depths", needle.DEFAULT_DEPTHS)
    elif task == "text":
        new_tokens, examples = text.MAX_NEW_TOKENS, DEFAULT_EXAMPLES
    elif task.startswith(ruler.PREFIX):
        new_tokens, examples = ruler.max_new_tokens(task.removeprefix(ruler.PREFIX)), DEFAULT_EXAMPLES
    else:
        return None
    return new_tokens, int(options.get("examples", options.get("limit", examples)))


def read_reproduction(path: Path) -> Reproduction:
    """A reproduction from its YAML file.

    A step is a command (`profile`, `eval` or `headkv_scores`) with options. "{task}" in an option is filled with each
    of the file's tasks: a step with `each: task` runs once a task, any other gets the list of all.

    Raises:
        RequestError: the file cannot be read, or something in it is unknown or missing.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"The reproduction {path} cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise RequestError(f"{path} must hold keys and values: {', '.join(_KEYS)}.")
    for key in content:
        if key not in _KEYS:
            raise unknown(f"key in {path}", str(key), _KEYS)
    for key in ("model", "shape", "steps"):
        if key not in content:
            raise RequestError(f"{path} lacks the key '{key}'.")
    wanted = {field.name for field in fields(Shape)}
    shape = content["shape"]
    if not isinstance(shape, dict) or set(shape) != wanted or not all(type(n) is int for n in shape.values()):
        raise RequestError(f"'shape' in {path} must hold whole numbers for {', '.join(sorted(wanted))}.")
    tasks = _names(content.get("tasks", []))
    steps = tuple(step for entry in content["steps"] for step in _steps(entry, str(content["model"]), tasks, path))
    return Reproduction(str(content.get("description", "")), Shape(**shape), content.get("examples") or {}, steps)


def _steps(entry: Any, model: str, tasks: list[str], path: Path) -> Iterator[Step]:
    if not isinstance(entry, dict) or not {"command", "options"} <= set(entry) <= {"command", "options", "each"}:
        raise RequestError(f"A step in {path} must have a 'command' and 'options'.")
    if entry["command"] not in _COMMANDS:
        raise unknown(f"command in {path}", str(entry["command"]), _COMMANDS)
    options = {"model": model, **entry["options"]}
    for task in tasks if entry.get("each") == "task" else [None]:
        yield Step(entry["command"], {name: _filled(value, tasks, task) for name, value in options.items()})


def _filled(value: Any, tasks: list[str], task: str | None) -> Any:
    """An option with its "{task}" filled; a bare "{task}" is the name, inside a path it is made a folder's name."""
    if not isinstance(value, str) or "{task}" not in value:
        return value

    def fill(name: str) -> str:
        return value.replace("{task}", name if value == "{task}" else name.replace("/", "-"))

    return [fill(name) for name in tasks] if task is None else fill(task)


def _names(value: Any) -> list[str]:
    parts = value if isinstance(value, list) else str(value).split(",")
    return [str(part).strip() for part in parts if str(part).strip()]


def _integers(value: Any) -> list[int]:
    try:
        return [int(name) for name in _names(value)]
    except ValueError:
        raise RequestError(f"'{value}' in a reproduction is not a list of whole numbers.") from None
