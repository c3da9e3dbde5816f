"""What is known of a benchmark's tasks by their names: whatever lists, checks, makes, counts or tabulates asks it."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cokv_bench.checks import Check, text, whole
from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import Split, Task
from cokv_bench.tasks.options import TaskOptions

if TYPE_CHECKING:
    import pandas as pd

    from cokv_bench.models import Model
    from cokv_bench.tasks.downloads import Download


@dataclass(frozen=True)
class Size:
    """The work that a task is, as a dry run without a model counts it.

    Attributes:
        examples: of the split, and per length where there are lengths.
        new_tokens: the most tokens of an answer.
        lengths: of prompts, in tokens; empty where prompts are as long as the data has them.
        published: whether these are the published files' examples, which the user's data may not have.
    """

    examples: int
    new_tokens: int
    lengths: tuple[int, ...] = ()
    published: bool = False


class UncountedError(Exception):
    """Why nobody knows, before a model or data are loaded, how much work a task is. No sentence's end: it is quoted."""


class Family(ABC):
    """A benchmark: its tasks by name, from the command line to the tables.

    Only `tasks` and `make` have a model; everything else must answer in no time and import no PyTorch. `add_family` in
    `cokv_bench/tasks/registry.py` makes a family known to every command.

    Attributes:
        name: of the benchmark. Its tasks are called NAME or NAME/TASK unless `owns` says otherwise.
        holds_paths: whether names of its tasks hold paths, which may have commas.
        examples: what its examples are called in a sentence, where they have a name of their own.
    """

    name: str
    holds_paths: bool = False
    examples: str = ""

    @abstractmethod
    def lines(self) -> Mapping[str, str]:
        """What `cokv-bench ls tasks` lists: tasks, groups of them and patterns such as "jsonl:PATH", a line each."""

    def known(self) -> Collection[str]:
        """All names that can be listed, groups among them; by default those of `lines`."""
        return list(self.lines())

    def has(self, name: str) -> bool:
        """Whether a user may ask for a name, of a task or a group."""
        return name in self.known()

    def owns(self, task: str) -> bool:
        """Whether a task in records or configurations is of this benchmark, be it of an earlier version."""
        return task == self.name or task.startswith(f"{self.name}/")

    def expand(self, name: str, options: TaskOptions) -> list[str]:
        """The tasks behind a name that it `has`; of a name that is no group, the name. No data is read.

        Raises:
            RequestError: an option that a task needs is missing.
        """
        return [name]

    @abstractmethod
    def make(self, name: str, model: "Model", options: TaskOptions) -> Task:
        """One task by its full name, as `expand` gives it.

        Raises:
            RequestError: options that the task refuses.
        """

    def tasks(self, name: str, model: "Model", options: TaskOptions) -> list[Task]:
        """The tasks behind a name that it `has`. Raises `RequestError` as `expand` and `make` do."""
        return [self.make(task, model, options) for task in self.expand(name, options)]

    def size(self, task: str, options: TaskOptions, split: Split, rows: int | None) -> Size:
        """The work that a task is, counted without a model and without downloads.

        Args:
            rows: that the task has in all splits together, where the user says it.

        Raises:
            UncountedError: it cannot be known, which is all that a family must say here.
        """
        raise UncountedError(f"the benchmark '{self.name}' does not say how many prompts it has")

    def several(self, task: str) -> bool:
        """Whether several questions can be asked of one context of a task; it then makes `TaskOptions.questions`."""
        return False

    def mean(self, task: str) -> str:
        """The benchmark in whose mean over tasks a task counts."""
        return self.name

    def knobs(self, task: str) -> str:
        """The benchmark whose knobs a task takes, as files of `cokv-bench tune` name it."""
        return self.name

    def published_mean(self) -> Collection[str]:
        """The tasks over which papers publish a mean; empty where they publish none."""
        return ()

    def length(self, task: str) -> str | None:
        """The column of records by whose values tables show a task's scores by length; None for no such table.

        Its values are tokens, or buckets such as "0-4k".
        """
        return None

    def columns(self, task: str) -> Mapping[str, Check]:
        """What the records of a task must hold, beyond what all records do, for the tables that are made of it."""
        length = self.length(task)
        return {} if length is None else {length: _a_length}

    def downloads(self) -> "Mapping[str, Download]":
        """What `cokv-bench data fetch` fetches for tasks of this benchmark, by the name that it is asked for."""
        return {}

    def tables(self, records: "pd.DataFrame") -> "Mapping[str, pd.DataFrame]":
        """Further tables of a run, by file name, made from the records of this benchmark's tasks."""
        return {}


class Stranger(Family):
    """The benchmark of tasks that no family here owns, such as those of a run that another installation made.

    Their records still give tables: a mean over those of one prefix, and none by length.
    """

    def __init__(self, task: str) -> None:
        self.name = task.partition("/")[0].partition(":")[0]

    def lines(self) -> Mapping[str, str]:
        """None: nobody can ask for its tasks."""
        return {}

    def make(self, name: str, model: "Model", options: TaskOptions) -> Task:
        """Refused: no benchmark here makes the task."""
        raise RequestError(f"No benchmark here makes the task '{name}'; `cokv-bench ls tasks` lists those that are.")


def _a_length(value: Any) -> str | None:
    good = text(value) is None or whole(1)(value) is None
    return None if good else "a number of tokens or the name of a bucket"
