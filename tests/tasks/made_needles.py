"""Needle tasks with a tokenizer of their own, and what their examples hold."""

import re
from pathlib import Path
from typing import Any

from cokv_bench.tasks.base import Example, Split
from cokv_bench.tasks.made.haystack import read_documents, sentences
from cokv_bench.tasks.made.words import normalise, occurs
from cokv_bench.tasks.needle.task import NeedleTask

SHARED_HAYSTACK = Path(__file__).resolve().parents[2].parent / "shared" / "haystack"
SPLITS: tuple[Split, ...] = ("profile", "test", "report")
TEMPLATE = 20  # tokens that a chat template would add
PACKAGED = read_documents()


class Pieces:
    """A tokenizer whose tokens are pieces of words, at most four letters long, with the gap before them."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [len(piece) for piece in re.findall(r"\s*\S{1,4}", text)]


def tokens(text: str) -> int:
    return len(Pieces().encode(text))


def make(**options: Any) -> NeedleTask:
    return NeedleTask(Pieces(), encode_length=lambda prompt: TEMPLATE + tokens(prompt), **options)


def needle_of(example: Example) -> str:
    """The needle's sentence, found in the prompt by the answer, which the haystack does not hold."""
    found = [s.strip() for s in sentences(example.prompt) if occurs(normalise(example.answers[0]), normalise(s))]
    assert len(found) == 1
    return found[0]


def context_of(example: Example) -> str:
    return example.prompt.rpartition("\n\n")[0]
