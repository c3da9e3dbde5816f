"""Greedy answers of the rows of one prompt, token by token; who decodes reads a token and hands on the next ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cokv_bench.errors import RequestError, quoted
from cokv_bench.kvcache.batching import logit_rows, rows_at_a_time
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.ragged import RaggedCache
from cokv_bench.kvcache.shared import SharedCache
from cokv_bench.models.finite import not_finite
from cokv_bench.models.model import Model


@dataclass(frozen=True)
class Ending:
    """Where answers end.

    Attributes:
        new: the most tokens of one.
        stops: ids that end one.
        banned: ids that are never first. The official code asks for one token at least of what may end at a newline,
            which also keeps an end token from coming first.
        until: texts that end one that holds them.
    """

    new: int
    stops: frozenset[int]
    banned: tuple[int, ...] = ()
    until: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: Model, new: int, stop_at_newline: bool, until: Sequence[str] = ()) -> "Ending":
        """The arguments are those of `decode`. Raises `RequestError` for texts that can end nothing."""
        texts = (until,) if isinstance(until, str) else tuple(until)
        for text in texts:
            if not isinstance(text, str) or not text:
                raise RequestError(f"An answer ends at a text of one character or more, not at {quoted(text)}.")
        if not stop_at_newline:
            return cls(new, model.stop_ids, (), texts)
        stops = model.stop_ids | model.newline_ids
        return cls(new, stops, tuple(stops), texts)


class Answers:
    """The rows of one prompt on their way.

    Attributes:
        cache: of the rows that go on.
        ids: of each row, its answer so far.
        alive: the rows that go on.
        fewer: whether rows have ended at the last token.
        coming: of each row that goes on, the token that comes next.
        position: of that token in its text.
    """

    def __init__(
        self,
        model: Model,
        prompt: Prompt,
        cache: SharedCache | RaggedCache,
        rows: int,
        question: Tensor,
        ending: Ending,
    ) -> None:
        """`question`: int64 [tokens] that every row reads first."""
        self._model, self._ending, self.cache = model, ending, cache
        self.ids: list[list[int]] = [[] for _ in range(rows)]
        self.alive, self.fewer = list(range(rows)), False
        self.position = prompt.tokens + question.numel()
        if question.numel():
            states = read_question(model, prompt, cache, question[None].expand(rows, -1))
            self.coming = most_likely(model, states, logit_rows(model, prompt), ending.banned)
        else:
            first = prompt.logits.clone()
            first[list(ending.banned)] = float("-inf")
            self.coming = [int(first.argmax())] * rows

    @property
    def left(self) -> int:
        """Tokens that are still to come, at most."""
        return self._ending.new - len(self.ids[self.alive[0]]) if self.alive else 0

    def hear(self) -> bool:
        """Add what comes next to the answers and let rows that have ended leave; whether any goes on."""
        for row, token in zip(self.alive, self.coming, strict=True):
            self.ids[row].append(token)
        going = [] if self.left == 0 else [index for index, row in enumerate(self.alive) if not self._ended(row)]
        self.fewer = len(going) < len(self.alive)
        if going and self.fewer:
            self.cache.keep_rows(torch.tensor(going, dtype=torch.long))
        self.alive, self.coming = ([part[index] for index in going] for part in (self.alive, self.coming))
        return bool(going)

    def _ended(self, row: int) -> bool:
        ids, ending = self.ids[row], self._ending
        if ids[-1] in ending.stops:
            return True
        if not ending.until:
            return False
        written = self._model.text_tokenizer.decode(ids)
        return any(text in written for text in ending.until)


def read_question(model: Model, prompt: Prompt, cache: SharedCache | RaggedCache, token_ids: Tensor) -> Tensor:
    """Hidden states [rows, width] after ids [rows, new] that follow the prompt, in pieces that fit the workspace."""
    rows, new = token_ids.shape
    piece = max(1, rows_at_a_time(model, prompt, tokens_a_pass=1, reserve=1) // rows)
    length, seen = max(prompt.length, prompt.tokens + new), 0
    for part in token_ids.split(piece, dim=1):
        states = model.hidden(part, prompt.tokens + seen, cache, length)[:, -1]
        seen += part.shape[1]
    return states


def most_likely(model: Model, states: Tensor, rows: int, banned: Sequence[int] = ()) -> list[int]:
    """The most likely next token of each of the hidden states [rows, width], the banned ones left out.

    Args:
        rows: whose logits exist at a time.

    Raises:
        RequestError: logits that are not finite.
    """
    chosen: list[int] = []
    for part in states.split(rows):
        logits = model.logits(part)
        logits[:, list(banned)] = float("-inf")
        best = logits.argmax(-1, keepdim=True)
        # NaN counts as the largest number, so the largest logit tells of any. Both come from the device at once; ids
        # are below 2^24, so float32 holds them exactly.
        peaks, ids = torch.cat([logits.gather(-1, best), best.float()], dim=1).T.tolist()
        if not all(map(math.isfinite, peaks)):
            raise not_finite(model, "logits", " while it answers")
        chosen += map(int, ids)
    return chosen
