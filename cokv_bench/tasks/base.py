"""What a task is: examples with a prompt and answers, and a score for a prediction."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypedDict, runtime_checkable

Split = Literal["profile", "test", "report", "all"]

#: Of the documents of rows: the share that heads are profiled and searched on, and the one that no choice may look at.
PROFILE_SHARE = 0.15
REPORT_SHARE = 0.2


@dataclass(frozen=True)
class Example:
    """One prompt with its reference answers.

    Attributes:
        id: hash of the content (`content_id`), so the same text is the same example in every file and task.
        task: name of the task, as on the command line.
        prompt: the text before any chat template.
        answers: accepted answers; a score is the best over them, or where a task says so (RULER) the share of
            them that is found. The first one is the reference that is teacher-forced. Empty where there is no label.
        max_new_tokens: the most tokens to generate.
        chat: wrap the prompt in the model's chat template.
        truncate: cut the middle out of a prompt that is too long (LongBench); otherwise too long is an error.
        stop_at_newline: end the answer at the first newline after at least one token (samsum).
        all_classes: class names of a classification task.
        question: the end of the prompt that question-agnostic runs append once the rest of it is compressed; empty
            where the prompt has no such part.
        begun: how the answer begins, such as "Answer:"; it stands after the chat template's opening of the answer, or
            after the prompt, and the model continues it.
        fields: further columns of the records, such as length and depth of a needle.
        document: what the example was made from and others may be made from too: a hash of a row's context, the id of
            a needle. Examples of one document belong to one split. By default the example's id: nothing is shared.
        later: examples of the same context with other questions, which are asked after this one from the same
            compressed cache.
        joint: whether an answer has to give all of `answers`; otherwise each of them is a whole answer.
        questions: ids that its questions have as examples of one question each; empty where it has one.
    """

    id: str
    task: str
    prompt: str
    answers: tuple[str, ...]
    max_new_tokens: int
    chat: bool = True
    truncate: bool = False
    stop_at_newline: bool = False
    all_classes: tuple[str, ...] | None = None
    question: str = ""
    begun: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    document: str = ""
    later: "tuple[Example, ...]" = ()
    joint: bool = False
    questions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.document:
            object.__setattr__(self, "document", self.id)

    @property
    def told(self) -> str:
        """The answer that a later question follows, where there are answers."""
        return ", ".join(self.answers) if self.joint else self.answers[0]

    @property
    def ids(self) -> frozenset[str]:
        """Its own id and those of its questions: whoever has seen one of them has seen the example."""
        return frozenset((self.id, *self.questions))


class Task(Protocol):
    """A named source of examples and the rule that scores predictions on them."""

    name: str
    metric: str
    version: int

    def examples(self, split: Split) -> list[Example]:
        """The examples of a split, in a fixed order; "profile", "test" and "report" share none, nor any document."""
        ...

    def score(self, example: Example, prediction: str) -> dict[str, float]:
        """Scores in [0, 1]; the key "score" holds the task's own metric, other keys are extra columns."""
        ...


@runtime_checkable
class OfRows(Protocol):
    """What a task is too whose examples are rows that stay the same whatever is asked for, and so can all be listed.

    Other tasks make their examples when they are asked for, others for other lengths and depths.
    """

    def documents(self) -> dict[str, str]:
        """Id -> document of all rows. Raises `RequestError` where they cannot be read."""
        ...


def documents_of(tasks: Iterable[Task]) -> dict[str, str]:
    """Id -> document of all rows of those tasks that are made of rows.

    Raises:
        RequestError: the rows cannot be read.
    """
    return {name: document for task in tasks if isinstance(task, OfRows) for name, document in task.documents().items()}


class MadeFrom(TypedDict):
    """What files about heads and knobs say of the examples behind them: names of tasks, ids, and documents."""

    tasks: tuple[str, ...]
    examples: tuple[str, ...]
    documents: tuple[str, ...]


def made_from(rows: Sequence[tuple[Task, Example]]) -> MadeFrom:
    """Of some examples, each with its task; tasks and documents once each."""
    return {
        "tasks": tuple(dict.fromkeys(task.name for task, _ in rows)),
        "examples": tuple(example.id for _, example in rows),
        "documents": tuple(dict.fromkeys(example.document for _, example in rows)),
    }


def contents(rows: Sequence[tuple[Task, Example]]) -> dict[str, str]:
    """Task -> hash of what its examples ask and accept and of how they are scored, which ids of rows say nothing of."""
    texts: dict[str, list[str]] = {}
    for task, example in rows:
        own = texts.setdefault(task.name, [task.metric, str(task.version), str(getattr(task, "rules_digest", None))])
        for each in (example, *example.later):
            plain = {name: value for name, value in vars(each).items() if name not in ("later", "fields", "document")}
            own.append(json.dumps(plain, sort_keys=True))
    return {name: content_id(*parts) for name, parts in texts.items()}


def content_id(*parts: str) -> str:
    """16 hex digits that depend on the given texts alone."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def split_rule(tasks: Iterable["Task"]) -> dict[str, str]:
    """{"split_rule": rule} where some tasks deal rows to the splits, for configurations; {} for all others.

    The rule is "document". Configurations without it are of tasks without rows, or of versions that dealt every row by
    itself.
    """
    rules = {rule for task in tasks if (rule := getattr(task, "split_rule", None)) is not None}
    return {"split_rule": "+".join(sorted(rules))} if rules else {}


def in_profile_split(name: str, *, seed: int = 0, share: float = PROFILE_SHARE) -> bool:
    """Whether what a name stands for belongs to the share on which heads are profiled: a seeded hash of it decides."""
    return _hash(name, seed) < share * 2**64


def side_of(document: str, *, seed: int = 0, profile_share: float = PROFILE_SHARE) -> Split:
    """The split of a document's examples: "profile", "test" or "report".

    A seeded hash of the document alone decides, so all questions about a text are on one side, whatever else the file
    holds. (CoKV validates on a random 15% of each task's rows and tests on the rest.) Few documents may come to shares
    that are far from these.

    Args:
        profile_share: share of the documents on which heads are profiled; `REPORT_SHARE` of them, or what is left, is
            set aside for the report, the same documents whatever this share is.
    """
    if in_profile_split(document, seed=seed, share=profile_share):
        return "profile"
    return "report" if _hash(document, seed) >= (1 - REPORT_SHARE) * 2**64 else "test"


def _hash(name: str, seed: int) -> int:
    """A number in 0..2**64 - 1."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big")
