"""One kind of recall as a task."""

from collections.abc import Callable, Sequence
from functools import partial

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import Example, Split, content_id
from cokv_bench.tasks.made.fit import most_units
from cokv_bench.tasks.made.haystack import Tokenizer
from cokv_bench.tasks.made.task import DEFAULT_EXAMPLES, MadeTask
from cokv_bench.tasks.made.words import normalise
from cokv_bench.tasks.recall.dice import Dice
from cokv_bench.tasks.recall.draft import Draft
from cokv_bench.tasks.recall.fill import Words
from cokv_bench.tasks.recall.genres import Source
from cokv_bench.tasks.recall.score import METRICS
from cokv_bench.tasks.recall.subtasks import PREFIX, subtask

# Drafts whose answer stands in the text by chance a second time are drawn again; so many in a row never are.
_TRIES = 40


class RecallTask(MadeTask):
    """Examples of one kind of recall at every length.

    Genre of the text, wording of fact, instruction and question, place of the fact and whether the prompt is a user's
    turn are drawn for each example. No two splits share an entity, a value, a wording or an essay. An example's
    document is the facts that it asks about.

    The score is one of `score.METRICS`: "found" and "share_found" look for the answer, or for each value of an answer
    that has several, as whole words; "qa_f1" (sentences), "code_sim" (lines of code) and "classification" (labels) are
    LongBench's metrics of the prediction's first line.

    Args:
        name: of the kind, such as "quotes".
        tokenizer: of the essays.
        encode_length: number of tokens of a final prompt with the chat template; a prompt has at most `length` and
            lacks about one unit of its text at most (a sentence, row, line, function or example with its label).
        bare_length: the same without the chat template.
        lengths: prompt lengths in tokens.
        examples: examples per length and split; default 10.
        seed: decides all draws.

    Raises:
        RequestError: an unknown kind or a bad number; `examples` raises it for a length that a prompt without any text
            exceeds.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Tokenizer,
        *,
        encode_length: Callable[[str], int],
        bare_length: Callable[[str], int],
        lengths: Sequence[int] = (1024,),
        examples: int | None = None,
        seed: int = 0,
    ) -> None:
        self.name = PREFIX + name
        self._subtask = subtask(self.name)
        self.metric, self.version = self._subtask.metric, self._subtask.version
        self._count = DEFAULT_EXAMPLES if examples is None else examples
        super().__init__(
            tokenizer,
            encode_length=encode_length,
            lengths=lengths,
            shortest=1,
            counts={"examples": self._count},
            folder=None,
            seed=seed,
        )
        self._bare_length = bare_length

    def score(self, example: Example, prediction: str) -> dict[str, float]:
        """ "score": the metric of the task."""
        return {"score": METRICS[self.metric](example, prediction)}

    def _make(self, split: Split, length: int) -> list[Example]:
        return [self._example(split, length, k) for k in range(self._count)]

    def _example(self, split: Split, length: int, k: int) -> Example:
        shortest = 0
        for attempt in range(_TRIES):
            dice = Dice(f"{self.name} {self._seed} {split} {length} {k} {attempt}")
            draft = dice.pick(self._subtask.drafts)(Source(Words(split), self._haystacks[split], dice))
            count = self._encode_length if draft.chat else self._bare_length
            units = most_units(length, partial(_tokens, draft, count))
            if units < 0:
                shortest = max(shortest, count(draft.prompt(0)))
            elif _stand_once(draft, units):
                return self._finished(draft, units, length)
        raise RequestError(
            f"Length {length} is too short for the task '{self.name}', whose shortest prompts take up to {shortest} "
            "tokens with the chat template; ask for a greater length."
        )

    def _finished(self, draft: Draft, units: int, length: int) -> Example:
        prompt = draft.prompt(units)
        return Example(
            id=content_id(prompt),
            task=self.name,
            prompt=prompt,
            answers=draft.answers,
            max_new_tokens=self._subtask.max_new_tokens,
            chat=draft.chat,
            question=draft.end(units),
            fields={
                "length": length,
                "kind": draft.kind,
                "genre": draft.genre,
                "depth": round(100 * draft.depth, 2),
            },
            all_classes=draft.classes,
            document=content_id(*draft.facts),
        )


def _tokens(draft: Draft, count: Callable[[str], int], units: int) -> int:
    return count(draft.prompt(units))


def _stand_once(draft: Draft, units: int) -> bool:
    text = f" {normalise(draft.context(units))} ".replace(" ", "  ")
    return all(text.count(f" {normalise(each)} ".replace(" ", "  ")) == 1 for each in draft.once)
