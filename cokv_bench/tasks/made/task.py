"""What the tasks share whose examples are made at any length: needle, ruler and text."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import Example, Split, content_id
from cokv_bench.tasks.made.haystack import Document, Haystack, Tokenizer, deal

#: Examples a length and split where nobody says how many; of needles there is one a depth.
DEFAULT_EXAMPLES = 10

#: Of which "all" is made.
SPLITS: tuple[Split, ...] = ("profile", "test", "report")


class MadeTask(ABC):
    """Examples of every length, made when a split is first asked for and then kept.

    The splits read different documents where there are three or more, profile and test where there are two. The
    examples of a length do not depend on what other lengths are asked for. A subclass has a `name` before it calls the
    constructor.

    Args:
        tokenizer: counts the documents' tokens.
        encode_length: number of tokens of the final prompt.
        lengths: prompt lengths in tokens; repeats count once.
        shortest: the least tokens that a length may have.
        counts: numbers that must be at least 1 where they are given, by name.
        folder: .txt files; None: the packaged essays.
        seed: decides all draws.

    Raises:
        RequestError: no length or one below the shortest, a number below 1, or a folder that holds no text.
    """

    name: str

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        encode_length: Callable[[str], int],
        lengths: Sequence[int],
        shortest: int,
        counts: Mapping[str, int | None],
        folder: str | Path | None,
        seed: int,
    ) -> None:
        if not lengths:
            raise RequestError(f"The task '{self.name}' has no length; give at least one, such as 1024.")
        for what, value, least in (
            ("tokens per prompt", min(lengths), shortest),
            *((what, value, 1) for what, value in counts.items()),
        ):
            if value is not None and value < least:
                raise RequestError(f"The task '{self.name}' was asked for {value} {what}; give at least {least}.")
        self._encode_length = encode_length
        self._lengths = tuple(dict.fromkeys(lengths))
        self._seed = seed
        self._documents: dict[Split, list[Document]] = deal(folder)
        self._haystacks = {split: Haystack(dealt, tokenizer) for split, dealt in self._documents.items()}
        self._made: dict[Split, list[Example]] = {}

    def examples(self, split: Split) -> list[Example]:
        """The examples by length, then by number; "all" is "profile", "test" and "report", one after the other.

        Examples that are equal in all are one, also those of two splits that read the same document. Where prompts are
        equal and answers are not, ids are of both.

        Raises:
            RequestError: a length that does not suit the task.
        """
        if split == "all":
            return _distinct([example for each in SPLITS for example in self.examples(each)])
        if split not in self._made:
            made = [example for length in self._lengths for example in self._make(split, length)]
            self._made[split] = _distinct(made)
        return list(self._made[split])

    @abstractmethod
    def _make(self, split: Split, length: int) -> list[Example]:
        """The examples of one length and of one split."""


def _distinct(examples: Sequence[Example]) -> list[Example]:
    answers: dict[str, set[tuple[str, ...]]] = {}
    for example in examples:
        answers.setdefault(example.id, set()).add(example.answers)
    found: dict[str, Example] = {}
    for example in examples:
        if len(answers[example.id]) > 1:
            example = replace(example, id=content_id(example.prompt, *example.answers))
        found.setdefault(example.id, example)
    return list(found.values())
