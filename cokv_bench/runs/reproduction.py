"""A reproduction: commands with their options in a YAML file, and what they will cost."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from cokv_bench.errors import RequestError, unknown
from cokv_bench.runs.estimate import Shape
from cokv_bench.runs.work import Work, names, work

_KEYS = ("description", "model", "shape", "examples", "tasks", "steps")
_COMMANDS = ("profile", "eval", "headkv_scores")


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
        examples: number of examples a task, all splits together, for estimates; LongBench's tasks that are not
            among them are taken to have their published rows.
    """

    description: str
    shape: Shape
    examples: Mapping[str, int]
    steps: tuple[Step, ...]

    def work(self, step: Step) -> Work:
        """What a step does. Raises `RequestError` where one of its tasks is unknown."""
        return work(step.command, step.options, self.examples)

    def about(self, step: Step) -> str:
        """The tasks of a step in a few words."""
        tasks = names(step.options.get("tasks", "needle"))
        return ", ".join(tasks) if len(tasks) < 3 else f"{tasks[0]} and {len(tasks) - 1} more"


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
    tasks = names(content.get("tasks", []))
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
