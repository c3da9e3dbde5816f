"""Needle in a Haystack: a fact at a chosen depth of a text of a chosen length, then the question for it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import Example, Split, content_id
from cokv_bench.tasks.made.draw import draw
from cokv_bench.tasks.made.fit import most_units
from cokv_bench.tasks.made.haystack import Tokenizer
from cokv_bench.tasks.made.task import MadeTask
from cokv_bench.tasks.made.words import normalise, occurs
from cokv_bench.tasks.needle import bank
from cokv_bench.tasks.needle.bank import Needle
from cokv_bench.tasks.needle.insert import insert
from cokv_bench.tasks.needle.score import score_answers
from cokv_bench.tasks.needle.user import read_needles
from cokv_bench.tasks.questions import together

SHORTEST = 64
DEFAULT_DEPTHS = 10
MAX_NEW_TOKENS = 24


def request(question: str) -> str:
    """The end of a prompt, which follows the haystack."""
    # The question comes last, so that the last prompt tokens, whose attention scores the rest, belong to it.
    # "Exact words" keeps a small model from answering out of its own knowledge.
    wish = "The text above states the answer to this question. Answer with the exact words of the text:"
    return f"\n\n{wish} {question}"


def depths_of(depths: int, examples: int | None) -> list[float]:
    """Depth in percent of each example of a length.

    `depths` values lie evenly from 0 to 100 (one alone lies at 50). More examples than depths go round again,
    fewer take an even choice.
    """
    grid = [50.0] if depths == 1 else [round(100 * i / (depths - 1), 2) for i in range(depths)]
    count = depths if examples is None else examples
    if count >= depths:
        return [grid[k % depths] for k in range(count)]
    if count == 1:
        return [grid[depths // 2]]
    return [grid[round(k * (depths - 1) / (count - 1))] for k in range(count)]


class NeedleTask(MadeTask):
    """Examples of every length and depth, each with a needle, a haystack and a place of its own.

    No two splits share needles or, given three or more files, haystacks. An example's document is its needle's id.

    Args:
        tokenizer: counts the haystack's tokens, for the depth.
        encode_length: number of tokens of the final prompt, chat template included; it decides how much
            haystack fits, so a prompt has at most `length` tokens and lacks a few at most.
        lengths: prompt lengths in tokens.
        depths: number of depths, evenly from 0% to 100%.
        examples: examples a length and split; by default one a depth.
        haystack: folder of .txt files in place of the packaged essays; a text too short for a length is
            repeated from its start, as the published needle tests do.
        needles: JSONL file in place of the bank; if it has fewer needles than examples, they are used again.
        seed: decides needles and where in the text a haystack begins.
        max_new_tokens: the most tokens to generate.
        questions: of each context, a needle each. The first is the one that the context has with one question; the
            others lie at depths evenly apart from its own.

    Raises:
        RequestError: a bad number, folder or file; `examples` raises it for a length that needle, question
            and chat template exceed by themselves.
    """

    name = "needle"
    metric = "found"
    version = 1

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        encode_length: Callable[[str], int],
        lengths: Sequence[int] = (1024,),
        depths: int = DEFAULT_DEPTHS,
        examples: int | None = None,
        haystack: str | Path | None = None,
        needles: str | Path | None = None,
        seed: int = 0,
        max_new_tokens: int = MAX_NEW_TOKENS,
        questions: int = 1,
    ) -> None:
        super().__init__(
            tokenizer,
            encode_length=encode_length,
            lengths=lengths,
            shortest=SHORTEST,
            counts={"depths": depths, "examples": examples, "max_new_tokens": max_new_tokens},
            folder=haystack,
            seed=seed,
        )
        self._depths = depths_of(depths, examples)
        self._max_new_tokens = max_new_tokens
        self._questions = questions
        self._text = normalise(" ".join(document.text for dealt in self._documents.values() for document in dealt))
        self._own = None if needles is None else read_needles(needles)

    def score(self, example: Example, prediction: str) -> dict[str, float]:
        """ "score": 1.0 where an answer occurs in the prediction; "word_recall": share of its words."""
        return score_answers(example.answers, prediction)

    def _make(self, split: Split, length: int) -> list[Example]:
        """In the order of the depths."""
        needles = self._needles(split, length)
        return [
            self._example(split, length, k, depth, needle)
            for k, (depth, needle) in enumerate(zip(self._depths, needles, strict=bool(needles)))
        ]

    def _needles(self, split: Split, length: int) -> list[list[Needle]]:
        """The needles of each example of a length; none where the user's file has none for the split."""
        count = len(self._depths)
        if self._own is not None:
            own = self._own[split]
            if own and len({needle.question for needle in own}) < self._questions:
                raise RequestError(
                    f"The needle file has too few different questions in the {split} split for {self._questions} per "
                    "context; add needles, or ask for fewer with --questions-per-context."
                )
            first = self._lengths.index(length) * count
            return [self._apart(own, first + k) for k in range(count)] if own else []
        # Seeded by the length, so that every length has its own. A needle whose answer stands in the text
        # would be found for the wrong reason; the packaged essays hold none, a user's folder may.
        seed, ask = draw(2**31, "length", self._seed, length), count * self._questions
        while True:
            drawn = bank.needles(split, ask, seed)
            usable = [needle for needle in drawn if not occurs(normalise(needle.answer), self._text)]
            firsts, others = usable[:count], _new_questions(usable, count)
            if len(firsts) == count and len(others) >= count * (self._questions - 1):
                return [[needle, *others[k::count][: self._questions - 1]] for k, needle in enumerate(firsts)]
            ask += len(bank.families())

    def _apart(self, own: Sequence[Needle], first: int) -> list[Needle]:
        """Needles of the user's with different questions, from a number on and round again."""
        found: dict[str, Needle] = {}
        for step in range(len(own)):
            needle = own[(first + step) % len(own)]
            found.setdefault(needle.question, needle)
        return list(found.values())[: self._questions]

    def _example(self, split: Split, length: int, k: int, depth: float, needles: Sequence[Needle]) -> Example:
        haystack = self._haystacks[split]
        start = draw(len(haystack.sentences), "start", self._seed, split, length, k)
        # A sentence on its own may have a token more than in its text, so take some to spare.
        stretch = haystack.stretch(start, length + length // 4 + 64)

        needle, apart = needles[0], 100 / len(needles)
        # The depth 100 stays what it is, since nothing follows it.
        depths = [depth, *((depth + apart * number) % 100 for number in range(1, len(needles)))]
        asked = list(zip([each.needle for each in needles], depths, strict=True))
        questions = [request(each.question) for each in needles]

        def context(n_words: int) -> tuple[str, list[float]]:
            return insert(*stretch.cut(n_words), asked)

        def tokens(n_words: int) -> int:
            return self._encode_length(context(n_words)[0] + questions[0])

        n_words = most_units(length, tokens, range(stretch.n_words + 1))
        if n_words < 0:
            raise RequestError(
                f"Needle length {length} leaves no room for a haystack, as needle, question and chat template "
                f"take {tokens(0)} tokens ('{needle.needle:.60}'); ask for a greater length."
            )
        text, placed = context(n_words)
        examples = [
            Example(
                id=content_id(text + question),
                task=self.name,
                prompt=text + question,
                answers=each.answers,
                max_new_tokens=self._max_new_tokens,
                question=question,
                fields={
                    "length": length,
                    "depth": depth,
                    "placed": round(placed[0], 2),
                    "needle": needle.id,
                    "family": needle.family,
                    "kind": needle.kind,
                },
                document=needle.id,
            )
            for each, question in zip(needles, questions, strict=True)
        ]
        return together(examples)


def _new_questions(needles: Sequence[Needle], count: int) -> list[Needle]:
    """The needles after the first so many whose questions no other one asks."""
    asked = {needle.question for needle in needles[:count]}
    found: dict[str, Needle] = {}
    for needle in needles[count:]:
        if needle.question not in asked:
            found.setdefault(needle.question, needle)
    return list(found.values())
