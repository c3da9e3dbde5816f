"""A reproduction: commands with their options in a YAML file, and what they will cost."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from cokv_bench.checks import Check, an_object, listed, one_of, or_null, problem, text, whole
from cokv_bench.costs.estimate import Shape
from cokv_bench.errors import RequestError, unknown
from cokv_bench.lists import join
from cokv_bench.lists import split as split_list

#: Options that are given once for each value; other lists have commas.
_REPEATED = ("heads", "profile", "budgets", "ruler-qa", "leave-out-run")
_KEYS = ("description", "model", "shape", "examples", "tasks", "steps")
#: The commands of steps; the last is the earlier name of the one before.
COMMANDS = ("profile", "search", "tune", "eval", "head-scores", "headkv_scores")


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
            if value is False:
                continue
            if value is True:
                found.append(f"--{name}")
            elif isinstance(value, list) and name in _REPEATED:
                found += [part for each in value for part in (f"--{name}", str(each))]
            else:
                found += [f"--{name}", join(value) if isinstance(value, list) else str(value)]
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


def read_reproduction(path: Path) -> Reproduction:
    """A reproduction from its YAML file.

    A step is one of `COMMANDS` with options. "{task}" in an option is filled with each
    of the file's tasks: a step with `each: task` runs once a task, any other gets the list of all.

    Raises:
        RequestError: the file cannot be read, or something in it is unknown or missing.
    """
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise RequestError(f"The reproduction {path} cannot be read ({error.strerror}).") from None
    # A date that no calendar has is a ValueError, and what is nested too deeply a RecursionError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise RequestError(f"{path} must hold keys and values: {', '.join(_KEYS)}.")
    for key in content:
        if key not in _KEYS:
            raise unknown(f"key in {path}", str(key), _KEYS)
    for key in _NEEDED:
        if key not in content:
            raise RequestError(f"{path} lacks the key '{key}'.")
    _refuse(path, problem(content, _NEEDED, _OPTIONAL))
    shape = content["shape"]
    if problem(shape, _SHAPE, _OF_SOME) or not set(shape) <= {*_SHAPE, *_OF_SOME}:
        needed, further = ", ".join(sorted(_SHAPE)), " or ".join(sorted(_OF_SOME))
        raise RequestError(f"'shape' in {path} must hold whole numbers for {needed}, and may for {further}.")
    _refuse(path, problem(content.get("examples") or {}, {}, dict.fromkeys(content.get("examples") or {}, whole(1))))
    tasks = _names(content.get("tasks") or [])
    steps = tuple(step for entry in content["steps"] for step in _steps(entry, content["model"], tasks, path))
    examples = content.get("examples") or {}
    return Reproduction(content.get("description") or "", Shape(**content["shape"]), examples, steps)


def _names(value: Any) -> list[str]:
    """A list, or words with commas between them."""
    parts = value if isinstance(value, list) else split_list(str(value))
    return [str(part).strip() for part in parts if str(part).strip()]


def _steps(entry: dict[str, Any], model: str, tasks: list[str], path: Path) -> Iterator[Step]:
    if not {"command", "options"} <= set(entry) <= {"command", "options", "each"}:
        raise RequestError(f"A step in {path} must have a 'command' and 'options', and nothing else but 'each'.")
    if entry["command"] not in COMMANDS:
        raise unknown(f"command in {path}", str(entry["command"]), COMMANDS)
    _refuse(path, problem(entry, {"options": an_object}, {"each": one_of("task")}))
    if any(text(name) for name in entry["options"]):
        raise RequestError(f"The options of a step in {path} must be names with values, such as 'budget: 64'.")
    options = {"model": model, **entry["options"]}
    for task in tasks if entry.get("each") == "task" else [None]:
        yield Step(entry["command"], {name: _filled(value, tasks, task) for name, value in options.items()})


def _refuse(path: Path, found: str | None) -> None:
    if found:
        raise RequestError(f"{path} is not a reproduction: {found}; see configs/reproduce for how one is written.")


def _steps_listed(value: Any) -> str | None:
    return (
        None
        if not listed(an_object, 1)(value)
        else "a list of steps, each of which must have a 'command' and 'options'"
    )


_NEEDED: dict[str, Check] = {"model": text, "shape": an_object, "steps": _steps_listed}
_OPTIONAL: dict[str, Check] = {
    "description": or_null(text),
    "examples": or_null(an_object),
    "tasks": or_null(lambda value: None if not text(value) or not listed(text)(value) else "a list of names"),
}
#: Those of hybrids, and of experts or packed weights.
_OF_SOME: dict[str, Check] = {"network_layers": whole(1), "weight_bytes": whole(1)}
_SHAPE: dict[str, Check] = {field.name: whole(1) for field in fields(Shape) if field.name not in _OF_SOME}


def _filled(value: Any, tasks: list[str], task: str | None) -> Any:
    """An option with its "{task}" filled; a bare "{task}" is the name, inside a path it is made a folder's name."""
    if not isinstance(value, str) or "{task}" not in value:
        return value

    def fill(name: str) -> str:
        return value.replace("{task}", name if value == "{task}" else name.replace("/", "-"))

    return [fill(name) for name in tasks] if task is None else fill(task)
