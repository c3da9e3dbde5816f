"""What a task is: examples with a prompt and answers, and a score for a prediction."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Split = Literal["profile", "test", "all"]


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
        fields: further columns of the records, such as length and depth of a needle.
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
    fields: Mapping[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """A named source of examples and the rule that scores predictions on them."""

    name: str
    metric: str
    version: int

    def examples(self, split: Split) -> list[Example]:
        """The examples of a split, in a fixed order; "profile" and "test" share none."""
        ...

    def score(self, example: Example, prediction: str) -> dict[str, float]:
        """Scores in [0, 1]; the key "score" holds the task's own metric, other keys are extra columns."""
        ...


def content_id(*parts: str) -> str:
    """16 hex digits that depend on the given texts alone."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def in_profile_split(example_id: str, *, seed: int = 0, share: float = 0.15) -> bool:
    """Whether an example belongs to the validation share on which heads are profiled.

    A seeded hash of the id alone decides, so a row stays on its side whatever else the file holds (CoKV
    validates on a random 15% of each task and tests on the rest).
    """
    digest = hashlib.sha256(f"{seed}:{example_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
