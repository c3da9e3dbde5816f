"""Finished runs under names, and what makes two of their examples one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

from cokv_bench.scores.means import means
from cokv_bench.scores.tables import frame_of, scores_table
from cokv_bench.scores.units import Unit, unit_of
from cokv_bench.tasks.registry import family_of


@dataclass(frozen=True)
class Submission:
    """A finished run under a name.

    Attributes:
        description: its `run.json`.
        records: one an example, method and budget.
        contents: by task a hash of what its examples ask and accept, where their ids do not tell them from another
            submission's (see `told_apart`).
    """

    name: str
    description: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    contents: Mapping[str, str] = field(default_factory=dict)

    @property
    def configuration(self) -> dict[str, Any]:
        configuration: dict[str, Any] = self.description["configuration"]
        return configuration

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """The settings of each task."""
        tasks: dict[str, dict[str, Any]] = self.configuration["tasks"]
        return tasks

    def identity(self, task: str) -> str:
        """The task with all that decides how it is read and scored."""
        told, settings = self.tasks[task], self.configuration
        # Runs that keep no reading may have cut any task.
        cut = settings["reading"]["cut"].get(task) if "reading" in settings else settings["max_length"]
        known = [task, told.get("version"), told["metric"], told.get("rules"), told.get("told"), cut]
        return json.dumps([*known, self.contents.get(task)])

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Its records, with `identity`: that of the task."""
        frame = frame_of(self.records)
        return frame.assign(identity=frame["task"].map({task: self.identity(task) for task in self.tasks}))

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The tidy table of scores, as the run itself has it."""
        return scores_table(self.frame.drop(columns="identity"), self.configuration)

    @property
    def unit(self) -> Unit:
        return unit_of(self.configuration, self.records)

    @property
    def benchmarks(self) -> dict[str, tuple[str, list[str]]]:
        """By benchmark: the row of `scores` that sums it up, and the tasks behind it."""
        tasks = list(self.tasks)
        several = {family_of(group[0]).mean(group[0]): (name, group) for name, group in means(tasks).items()}
        single = {family_of(task).mean(task): (task, [task]) for task in tasks}
        return {**single, **several}


def told_apart(submissions: Sequence[Submission]) -> list[Submission]:
    """Submissions with `contents` for each task of which another one has the same ids and other texts or answers.

    Runs of earlier versions keep no hash of those; nobody can tell whose examples they have, and they get none.
    """
    hashes: dict[tuple[str, str], set[str]] = {}
    for each in submissions:
        for task, told in each.tasks.items():
            if {"ids", "contents"} <= told.keys():
                hashes.setdefault((each.identity(task), told["ids"]), set()).add(told["contents"])

    def doubted(each: Submission) -> dict[str, str]:
        known = {task: told for task, told in each.tasks.items() if {"ids", "contents"} <= told.keys()}
        return {
            task: told["contents"] for task, told in known.items() if len(hashes[each.identity(task), told["ids"]]) > 1
        }

    return [replace(each, contents=doubted(each)) for each in submissions]
