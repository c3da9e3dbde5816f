"""Plain text, then a passage of it once more: recall without any label, from a folder or the packaged essays."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import Example, Split, content_id
from cokv_bench.tasks.made.draw import draw
from cokv_bench.tasks.made.fit import most_units
from cokv_bench.tasks.made.haystack import Tokenizer
from cokv_bench.tasks.made.task import DEFAULT_EXAMPLES, MadeTask
from cokv_bench.tasks.metrics import best_score

MAX_NEW_TOKENS = 64
_SHORTEST = 64
# Words of the passage that the prompt ends with: enough to tell it from others.
_CUE = 6


class TextTask(MadeTask):
    """Whole sentences of a text, then the first words of one of them again; the reference is how it went on.

    What a text goes on with hardly depends on what was far before; a repeated passage does, and it needs no label.
    No chat template is used: the model goes on with the passage. Given three or more files, no two splits share one.

    Args:
        tokenizer: counts the tokens of sentences.
        encode_length: number of tokens of a prompt; a prompt has at most `length` and lacks a sentence at most.
        lengths: prompt lengths in tokens.
        examples: examples a length and split; default 10.
        folder: .txt files; default the packaged essays. A text too short for a length is repeated from its start.
        seed: decides where each example begins.
        max_new_tokens: tokens of the reference at most, and of a generated continuation.

    Raises:
        RequestError: a bad number or folder; `examples` raises it for a length that the first sentence exceeds.
    """

    name = "text"
    metric = "rouge"
    # The reference of version 1 was the whole rest of the text, which no answer of so many tokens can be.
    version = 2

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        encode_length: Callable[[str], int],
        lengths: Sequence[int] = (1024,),
        examples: int | None = None,
        folder: str | Path | None = None,
        seed: int = 0,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        self._count = DEFAULT_EXAMPLES if examples is None else examples
        super().__init__(
            tokenizer,
            encode_length=encode_length,
            lengths=lengths,
            shortest=_SHORTEST,
            counts={"examples": self._count},
            folder=folder,
            seed=seed,
        )
        self._tokenizer, self._max_new_tokens = tokenizer, max_new_tokens

    def score(self, example: Example, prediction: str) -> dict[str, float]:
        """ "score": ROUGE-L with how the passage went on."""
        return {"score": best_score(self.metric, prediction, example.answers)}

    def _make(self, split: Split, length: int) -> list[Example]:
        return [self._example(split, length, k) for k in range(self._count)]

    def _example(self, split: Split, length: int, k: int) -> Example:
        text = self._haystacks[split]
        start = draw(len(text.sentences), "text", self._seed, split, length, k)
        # Tokens to spare: a sentence on its own may have some more or fewer than within its text.
        stretch = text.stretch(start, length + length // 4)
        parts, _ = stretch.cut(stretch.n_words)
        ends = list(accumulate(map(len, parts)))
        whole = "".join(parts)

        def passage(kept: int) -> tuple[str, str]:
            """The first words of a sentence in the first three quarters of `kept`, and what follows them in these."""
            place = draw(max(1, 3 * kept // 4), "passage", self._seed, split, length, k)
            sentence = whole[ends[place] - len(parts[place]) : ends[place]]
            cue = " ".join(sentence.split()[:_CUE])
            after = whole.index(cue, ends[place] - len(parts[place])) + len(cue)
            return cue, whole[after : ends[kept - 1]]

        def prompt(kept: int) -> str:
            return f"{whole[: ends[kept - 1]]}\n\n{passage(kept)[0]}"

        kept = most_units(length, lambda kept: self._encode_length(prompt(kept)), range(1, len(parts) + 1))
        # Nothing follows the cue where the text is a sentence of as many words.
        reference = passage(kept)[1] if kept else ""
        if not reference:
            raise RequestError(f"Length {length} is too short for sentences of the text; ask for a greater length.")
        made = prompt(kept)
        return Example(
            # Of the whole rest, as in version 1, so that head files still know what they were made from.
            id=content_id(made, reference),
            task=self.name,
            prompt=made,
            answers=(self._beginning(f"\n\n{passage(kept)[0]}", reference),),
            max_new_tokens=self._max_new_tokens,
            chat=False,
            fields={"length": length},
        )

    def _beginning(self, before: str, reference: str) -> str:
        """The shortest beginning of a reference that has its first `max_new_tokens` tokens after some text."""

        def tokens(after: str) -> list[int]:
            return self._tokenizer.encode(before + after, add_special_tokens=False)

        most = len(tokens("")) + self._max_new_tokens
        wanted = tokens(reference)[:most]
        ends = range(1, len(reference) + 1)
        return next(reference[:end] for end in ends if tokens(reference[:end])[:most] == wanted)
