"""The tasks by name, one for each kind of recall."""

from collections.abc import Callable
from dataclasses import dataclass

from cokv_bench.errors import unknown
from cokv_bench.tasks.recall.catalogue import item
from cokv_bench.tasks.recall.code import code_line
from cokv_bench.tasks.recall.draft import Draft
from cokv_bench.tasks.recall.facts import Facts, several, spoken, which
from cokv_bench.tasks.recall.genres import Source
from cokv_bench.tasks.recall.labels import labelled
from cokv_bench.tasks.recall.tables import cell, pair, row

PREFIX = "recall/"


@dataclass(frozen=True)
class Subtask:
    """One task.

    Attributes:
        description: a few words for lists.
        max_new_tokens: the most tokens of an answer.
        drafts: ways to draft an example, each as often as the others.
        metric: a name of `score.METRICS`.
        version: moves when prompts or scores change.
    """

    description: str
    max_new_tokens: int
    drafts: tuple[Callable[[Source], Draft], ...]
    metric: str = "found"
    version: int = 1


_PHRASES = ("thing", "keeping", "promise")
_NAMES = ("person", "placename", "employer")

SUBTASKS: dict[str, Subtask] = {
    "numbers": Subtask(
        "numbers, dates, times, sums, codes, UUIDs, constants",
        48,
        (
            Facts(("number",)),
            Facts(("date", "time")),
            Facts(("money", "phone")),
            Facts(("code",)),
            Facts(("uuid", "constant")),
        ),
    ),
    "phrases": Subtask(
        "names, things, places and promises of two to seven words", 24, (Facts(_NAMES), Facts(_PHRASES))
    ),
    "quotes": Subtask(
        "whole sentences that somebody said or wrote, and rows", 48, (Facts(("said",)),) * 3 + (row,), "qa_f1"
    ),
    "several": Subtask("two to four values of one thing", 64, (several,), "share_found"),
    "code": Subtask("lines of functions", 40, (code_line,), "code_sim"),
    "tables": Subtask("cells of tables and values of keys", 48, (cell, pair)),
    "lists": Subtask("items of lists by number or by the item before", 24, (item,)),
    "dialogue": Subtask("what people say of themselves in a chat", 24, (spoken,)),
    "steps": Subtask("two facts that lead from one to the other", 40, (Facts(("steps",)),)),
    "labels": Subtask("labels by examples, and which of two", 12, (labelled, which), "classification"),
}


def subtask(name: str) -> Subtask:
    """The task of a name such as "recall/code".

    Raises:
        RequestError: there is none, with the nearest names.
    """
    known = SUBTASKS.get(name.removeprefix(PREFIX))
    if known is None:
        raise unknown("task", name, [PREFIX + each for each in SUBTASKS])
    return known
