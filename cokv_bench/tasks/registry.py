"""The benchmarks, and tasks by their names on the command line."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from cokv_bench.errors import RequestError, unknown
from cokv_bench.registries import FAMILIES
from cokv_bench.tasks.base import Task
from cokv_bench.tasks.family import Family, Stranger
from cokv_bench.tasks.options import TaskOptions

if TYPE_CHECKING:
    from cokv_bench.models import Model

__all__ = ["FAMILIES", "TaskOptions", "add_family", "check", "expand", "family_of", "lines", "origins", "resolve"]


def add_family(family: Family) -> None:
    """Make a benchmark known to every command. Its line is that of its first task.

    Raises:
        RequestError: one of its names is another benchmark's.
    """
    for name in (family.name, *family.known()):
        if name in FAMILIES or any(other.owns(name) or other.has(name) for other in FAMILIES.values()):
            raise RequestError(f"There is a benchmark or task '{name}' already; give this one another name.")
    FAMILIES.add(family.name, next(iter(family.lines().values()), family.name), family)


def family_of(task: str) -> Family:
    """The benchmark of a task in records or configurations; a `Stranger` where none here owns it."""
    return next((family for family in FAMILIES.values() if family.owns(task)), None) or Stranger(task)


def lines() -> dict[str, str]:
    """All that a user may name, and a line about each."""
    return {name: line for family in FAMILIES.values() for name, line in family.lines().items()}


def origins() -> dict[str, str]:
    """Where each of `lines` comes from: the package or a plug-in."""
    return {name: FAMILIES.origin(family.name) for family in FAMILIES.values() for name in family.lines()}


def expand(name: str, options: TaskOptions) -> list[str]:
    """The full names of the tasks behind a name of the command line, which may be a group; no data is read.

    Raises:
        RequestError: no such task, with the nearest names of all tasks; or an option that a task needs is missing.
    """
    return _asked(name).expand(name, options)


def check(names: Collection[str], options: TaskOptions) -> None:
    """Refuse unknown tasks, before anything is loaded.

    Raises:
        RequestError: as for `expand`; where a comma has cut a path, how to write it.
    """
    cut = False
    for name in names:
        try:
            family = _asked(name)
        except RequestError as error:
            if not cut:
                raise
            raise RequestError(
                f"{str(error).rstrip('.')}. A comma ends a task: write a path that has one in double quotes, as in "
                f"--tasks '\"jsonl:a, b.jsonl\"'."
            ) from None
        for task in family.expand(name, options):
            _check_questions(family, task, options)
        cut = cut or family.holds_paths


def _check_questions(family: Family, task: str, options: TaskOptions) -> None:
    if options.questions > 1 and not family.several(task):
        able = [each.name for each in FAMILIES.values() if any(map(each.several, [each.name, *each.known()]))]
        raise RequestError(
            f"'{task}' has one question per context; leave it out of --tasks, or leave out --questions-per-context "
            f"{options.questions}. Benchmarks with tasks that have several: {', '.join(able)}."
        )


def check_known(name: str) -> None:
    """Refuse what is neither a task nor a group of them. Raises `RequestError` with the nearest names."""
    _asked(name)


def resolve(names: Collection[str], model: "Model", options: TaskOptions) -> list[Task]:
    """The tasks behind command-line names, in order and without repeats.

    Raises:
        RequestError: an unknown name, or options that a task refuses.
    """
    tasks: dict[str, Task] = {}
    for name in names:
        family = _asked(name)
        for task in family.tasks(name, model, options):
            _check_questions(family, task.name, options)
            tasks.setdefault(task.name, task)
    return list(tasks.values())


def _asked(name: str) -> Family:
    """The benchmark that has a name."""
    for family in FAMILIES.values():
        if family.has(name):
            return family
    near = unknown("task", name, [known for family in FAMILIES.values() for known in family.known()])
    # A list of thirty names is no help; those without a slash are whole benchmarks.
    raise near if "did you mean" in str(near) else unknown("task", name, [each for each in lines() if "/" not in each])
