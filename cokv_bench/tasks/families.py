"""Families of tasks, as `--leave-out` and scripts name them: tasks that belong together, whatever their benchmarks."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from cokv_bench.errors import RequestError, quoted
from cokv_bench.option import Option
from cokv_bench.tasks.registry import check_known

# Bytes that the name of a folder may have on all usual file systems.
_LONGEST = 255


@dataclass(frozen=True)
class LeaveOut:
    """What the command line says of families that are left out."""

    leave_out: Annotated[
        tuple[str, ...],
        Option(
            "Families to leave out one at a time, each with its own result folder. A family is tasks or benchmarks "
            "joined by a plus, optionally with a name: needle,code=longbench/lcc+longbench/repobench-p."
        ),
    ] = ()

    @property
    def families(self) -> list["TaskFamily"]:
        """The families, in order.

        Raises:
            RequestError: two of them would have the same folder, or one has a name that no folder can have.
        """
        found: dict[str, TaskFamily] = {}
        for text in self.leave_out:
            family = TaskFamily.read(text)
            if len(family.folder.encode()) > _LONGEST:
                raise RequestError(
                    f"The family to leave out {quoted(family.name)} has too long a name for its folder; give it a "
                    "shorter one before its tasks, as in others=TASK+TASK."
                )
            if found.setdefault(family.folder, family) is not family:
                raise RequestError(
                    f"Two families to leave out are called '{family.name}'; give each a name of its own, as in "
                    f"other={'+'.join(family.tasks)}."
                )
        return list(found.values())


@dataclass(frozen=True)
class TaskFamily:
    """Tasks that belong together.

    Attributes:
        name: as tables and folders have it.
        tasks: tasks, or benchmarks of tasks.
    """

    name: str
    tasks: tuple[str, ...]

    @classmethod
    def read(cls, text: str) -> Self:
        """From TASK+TASK, which is its name as well, or NAME=TASK+TASK."""
        name, _, tasks = text.rpartition("=")
        return cls(name or tasks, tuple(tasks.split("+")))

    @property
    def folder(self) -> str:
        """What a result without the family is called as a folder."""
        return folder_name(f"without-{self.name}")

    def has(self, task: str) -> bool:
        """Whether a task is one of the family's."""
        return is_of(task, self.tasks)


def is_of(task: str, names: Iterable[str]) -> bool:
    """Whether a task is one of these, or of one of these benchmarks."""
    return any(task == name or task.startswith(f"{name}/") for name in names)


def check_among(names: Iterable[str], tasks: Collection[str], what: str, purpose: str) -> None:
    """Refuse a name that is none of some tasks, nor a benchmark of one.

    Args:
        tasks: full names.
        what: has these tasks, such as "this search".
        purpose: of the names, such as "leave out".

    Raises:
        RequestError: with the first such name.
    """
    for name in names:
        if not any(is_of(task, [name]) for task in tasks):
            raise RequestError(f"No task of {what} is '{name}', which it is to {purpose}; name other tasks.")


def check_some(names: Sequence[str], tasks: Collection[str], what: str, purpose: str) -> None:
    """Refuse names of which not one is a task, or a benchmark of one; some may have no examples at hand.

    Args:
        tasks, what, purpose: as for `check_among`.

    Raises:
        RequestError: with the first of them, or with one that no task or benchmark has, which is a slip of the pen.
    """
    if not any(is_of(task, names) for task in tasks):
        check_among(names[:1], tasks, what, purpose)
    for name in names:
        if not any(is_of(task, [name]) for task in tasks):
            check_known(name)


def folder_name(name: str) -> str:
    """A name as a folder can have it, such as laq,draft=4."""
    return re.sub(r"[^\w.=-]+", ",", name)
