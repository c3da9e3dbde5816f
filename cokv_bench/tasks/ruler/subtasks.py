"""The subtasks by name."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from cokv_bench.errors import RequestError, unknown
from cokv_bench.tasks.ruler.counting import common_words, frequent_words
from cokv_bench.tasks.ruler.draft import Draft
from cokv_bench.tasks.ruler.material import Material
from cokv_bench.tasks.ruler.niah import Niah
from cokv_bench.tasks.ruler.qa import PUBLISHED, Answering, Documents
from cokv_bench.tasks.ruler.tracking import variable_tracking

PREFIX = "ruler/"


@dataclass(frozen=True)
class Subtask:
    """One subtask.

    Attributes:
        description: a few words for lists.
        max_new_tokens: the published most tokens of an answer.
        draft: how an example is drafted.
        metric: a name in `cokv_bench.tasks.metrics.METRICS`.
        version: moves when prompts or scores change.
        several: whether one context can have several questions.
    """

    description: str
    max_new_tokens: int
    draft: Callable[[Material], Draft]
    metric: str = "string_match_all"
    version: int = 1
    several: bool = False


SUBTASKS: dict[str, Subtask] = {
    "niah_single_1": Subtask("a number in noise", 128, Niah("noise"), several=True),
    "niah_single_2": Subtask("a number in essays", 128, Niah("essays"), several=True),
    "niah_single_3": Subtask("a UUID in essays", 128, Niah("essays", value="uuid"), several=True),
    "niah_multikey_1": Subtask("four keys in essays, one asked", 128, Niah("essays", keys=4), several=True),
    "niah_multikey_2": Subtask("a number among needles", 128, Niah("needles"), several=True),
    "niah_multikey_3": Subtask(
        "a UUID among needles of UUIDs", 128, Niah("needles", key="uuid", value="uuid"), several=True
    ),
    "niah_multivalue": Subtask("all four numbers of one key, in essays", 128, Niah("essays", values=4), several=True),
    "niah_multiquery": Subtask("four keys in essays, all asked", 128, Niah("essays", keys=4, asked=4), several=True),
    # Version 2 brought the worked examples, and a list of cwe that no longer begins with the ten answers.
    "vt": Subtask("variable tracking, one chain of four hops in noise", 30, variable_tracking, version=2, several=True),
    "cwe": Subtask("the ten common words of a list", 120, common_words, version=2),
    "fwe": Subtask("the three most frequent coded words", 50, frequent_words),
}

# What a file of the user's is needed for.
FROM_FILE: dict[str, str] = {
    "qa_1": "a question about one paragraph among many, from your file (SQuAD, --ruler-qa)",
    "qa_2": "a question about two paragraphs among many, from your file (HotpotQA, --ruler-qa)",
}
_FROM_FILE_NEW_TOKENS = 32


def subtask(name: str, qa: Mapping[str, Documents]) -> Subtask:
    """The subtask of a name that `expand` gave for the same files."""
    if name in SUBTASKS:
        return SUBTASKS[name]
    description, new_tokens = FROM_FILE[name], max_new_tokens(name)
    return Subtask(description, new_tokens, Answering(qa[name]), metric="string_match_part")


def max_new_tokens(name: str) -> int:
    """The published most tokens of an answer, of any subtask; no file is needed."""
    return SUBTASKS[name].max_new_tokens if name in SUBTASKS else _FROM_FILE_NEW_TOKENS


def expand(name: str, qa: Collection[str]) -> list[str]:
    """The subtasks behind "ruler" (all that need no file, and those whose file is given) or "ruler/NAME".

    Args:
        qa: subtasks whose file is given, such as the keys of what `read_qa` found.

    Raises:
        RequestError: there is no such subtask (with the nearest names), or its file is not given.
    """
    if name == "ruler":
        return [*SUBTASKS, *(known for known in FROM_FILE if known in qa)]
    wanted = name.removeprefix(PREFIX)
    if wanted in FROM_FILE and wanted not in qa:
        shape = PUBLISHED[wanted]
        raise RequestError(
            f"The task '{name}' needs a file in {shape.data_set}'s shape; name one with --ruler-qa, such as "
            f"{shape.published}."
        )
    if wanted not in {*SUBTASKS, *FROM_FILE}:
        raise unknown("task", name, ["ruler", *(PREFIX + known for known in [*SUBTASKS, *FROM_FILE])])
    return [wanted]
