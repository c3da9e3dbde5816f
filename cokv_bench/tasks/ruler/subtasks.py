"""The subtasks by name."""

from collections.abc import Callable
from dataclasses import dataclass

from cokv_bench.errors import unknown
from cokv_bench.tasks.ruler.counting import common_words, frequent_words
from cokv_bench.tasks.ruler.material import Draft, Material
from cokv_bench.tasks.ruler.niah import Niah
from cokv_bench.tasks.ruler.tracking import variable_tracking

PREFIX = "ruler/"


@dataclass(frozen=True)
class Subtask:
    """One subtask: a description, the published most tokens of an answer, and how an example is drafted."""

    description: str
    max_new_tokens: int
    draft: Callable[[Material], Draft]


SUBTASKS: dict[str, Subtask] = {
    "niah_single_1": Subtask("a number in noise", 128, Niah("noise")),
    "niah_single_2": Subtask("a number in essays", 128, Niah("essays")),
    "niah_single_3": Subtask("a UUID in essays", 128, Niah("essays", value="uuid")),
    "niah_multikey_1": Subtask("four keys in essays, one asked", 128, Niah("essays", keys=4)),
    "niah_multikey_2": Subtask("a number among needles", 128, Niah("needles")),
    "niah_multikey_3": Subtask("a UUID among needles of UUIDs", 128, Niah("needles", key="uuid", value="uuid")),
    "niah_multivalue": Subtask("all four numbers of one key, in essays", 128, Niah("essays", values=4)),
    "niah_multiquery": Subtask("four keys in essays, all asked", 128, Niah("essays", keys=4, asked=4)),
    "vt": Subtask("variable tracking, one chain of four hops in noise", 30, variable_tracking),
    "cwe": Subtask("the ten common words of a list", 120, common_words),
    "fwe": Subtask("the three most frequent coded words", 50, frequent_words),
}


def expand(name: str) -> list[str]:
    """The subtasks behind "ruler" (all of them) or "ruler/NAME".

    Raises:
        RequestError: there is no such subtask (with the nearest names).
    """
    if name == "ruler":
        return list(SUBTASKS)
    subtask = name.removeprefix(PREFIX)
    if subtask not in SUBTASKS:
        raise unknown("task", name, ["ruler", *(PREFIX + known for known in SUBTASKS)])
    return [subtask]
