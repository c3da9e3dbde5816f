"""What a search learns from: prefilled prompts in the order of their ranks, with the answers to score."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cokv_bench.budgets.apportion import apportion
from cokv_bench.errors import RequestError
from cokv_bench.game.head_game import DEFAULT_SHARE, free_memory, playing_rows
from cokv_bench.game.utilities import Case, PromptUtility, get_utility
from cokv_bench.kvcache import Prompt, prefill
from cokv_bench.kvcache.ranked import RankedRow, answer_logprobs, by_rank
from cokv_bench.kvcache.store import PromptStore
from cokv_bench.models import Model
from cokv_bench.policies import Policy, get_policy
from cokv_bench.search.shares import split
from cokv_bench.tasks import Example, Task
from cokv_bench.tasks.prompts import Encoding, encode_parts

#: Tokens of an answer that are scored at most: a summary's start tells as much as all of it, at a tenth of the cost.
ANSWER_TOKENS = 64
# Tokens that one pass reads: enough for matrix products at full speed, few enough that the gradient's memory is small.
_TOKENS_A_PASS = 160


@dataclass(frozen=True)
class Point:
    """One example at one budget."""

    example: int
    budget: int


class SearchExamples:
    """Examples with everything that scoring budgets on them needs, prefilled once each.

    Attributes:
        rows: the examples with their tasks.
        utility: name of the utility.
    """

    def __init__(
        self,
        model: Model,
        tasks: Sequence[Task],
        utility: str,
        *,
        window: int,
        encoding: Encoding | None = None,
        memory_limit: int | None = None,
        spill_folder: Path | None = None,
    ) -> None:
        """From the profile split of tasks.

        Args:
            memory_limit: bytes for prompts; default 60% of what is free. Prompts beyond it go to a file.
            spill_folder: where that file is made; default the system's temporary folder.

        Raises:
            RequestError: a utility without a gradient, or examples that do not serve it, see `playing_rows`.
        """
        chosen = get_utility(utility)
        if chosen.answer is None:
            raise RequestError(
                f"The utility '{utility}' has no gradient to follow; search with loglik, or agreement without labels."
            )
        self.model, self.window, self.utility = model, window, utility
        self.encoding = encoding or Encoding()
        self.rows = playing_rows(model, tasks, chosen, self.encoding)
        self._chosen: PromptUtility = chosen
        self._policy: Policy = get_policy("snapkv")
        self._texts: dict[int, tuple[Tensor, Tensor]] = {}
        limit = memory_limit or int(DEFAULT_SHARE * free_memory(model.device))
        self._store = PromptStore(self._prefill, limit=limit, folder=spill_folder)

    def task(self, example: int) -> str:
        """Name of the task of an example."""
        return self.rows[example][0].name

    def counts(self, example: int) -> bool:
        """Whether budgets can change the answer's score: not where all of it is the first token, see `RankedRow`."""
        self._store.get(example)
        question, answer = self._texts[example]
        return len(question) > 0 or len(answer) > 1

    def score(
        self, points: Sequence[Point], log_shares: Sequence[Tensor], weights: Sequence[float] | None = None
    ) -> list[float]:
        """Mean log-probability of the answer of each point when the heads share its budget as told.

        Args:
            log_shares: one float [layers, kv_heads] a point.
            weights: a number a point; if given, the derivative of the weighted sum of the scores is added to what
                the log-shares were made from, each from a graph of its own.
        """
        rows = [self._row(point, shares, weights is not None) for point, shares in zip(points, log_shares, strict=True)]
        return self._measure(rows, weights)

    def full(self, examples: Sequence[int]) -> list[float]:
        """The same with the full cache."""
        rows = []
        for example in examples:
            prompt = self._store.get(example)
            kept = torch.full((prompt.layers, prompt.kv_heads), prompt.tokens - self.window)
            rows.append(RankedRow(prompt, *self._texts[example], kept))
        return self._measure(rows)

    def _row(self, point: Point, log_shares: Tensor, gradient: bool) -> RankedRow:
        prompt = self._store.get(point.example)
        room = prompt.tokens - self.window
        heads = prompt.layers * prompt.kv_heads
        total = min(point.budget - self.window, room) * heads
        values = log_shares.detach().double()
        kept = apportion((values - values.max()).exp().numpy(), total, room)
        wanted = split(log_shares, total, room) if gradient else None
        return RankedRow(prompt, *self._texts[point.example], torch.from_numpy(kept), wanted)

    def _measure(self, rows: Sequence[RankedRow], weights: Sequence[float] | None = None) -> list[float]:
        # Rows of like length side by side, as many as make a pass.
        order = sorted(range(len(rows)), key=lambda index: len(rows[index].read))
        found = [0.0] * len(rows)
        batch: list[int] = []
        for place, index in enumerate(order):
            batch.append(index)
            following = order[place + 1 : place + 2]
            if following and len(rows[following[0]].read) * (len(batch) + 1) <= _TOKENS_A_PASS:
                continue
            with torch.set_grad_enabled(weights is not None):
                scores = answer_logprobs(self.model, [rows[index] for index in batch])
            if weights is not None:
                (scores * torch.tensor([weights[index] for index in batch], device=scores.device)).sum().backward()
            for index, score in zip(batch, scores.tolist(), strict=True):
                found[index] = score
            batch = []
        if not np.isfinite(found).all():
            raise RequestError("An answer's log-probability is not finite; try a wider dtype, such as float32.")
        return found

    def _prefill(self, example: int) -> Prompt:
        task, row = self.rows[example]
        encoded = encode_parts(self.model, row, self.encoding)
        prompt = prefill(self.model, encoded.prompt, window=self.window, accumulated_attention=False)
        case = Case(self.model, task, row, prompt, question=tuple(encoded.question))
        assert self._chosen.answer is not None
        answer = list(self._chosen.answer(case))[:ANSWER_TOKENS]
        self._texts[example] = torch.tensor(encoded.question, dtype=torch.long), torch.tensor(answer, dtype=torch.long)
        return by_rank(prompt, self._policy.ranks(prompt))


def parts(rows: Sequence[tuple[Task, Example]]) -> tuple[list[int], list[int]]:
    """Numbers of the examples to search on and to choose on: every fourth of each task is for choosing.

    Raises:
        RequestError: no task has two examples.
    """
    seen: dict[str, int] = {}
    searched: list[int] = []
    chosen: list[int] = []
    for number, (task, _) in enumerate(rows):
        place = seen.get(task.name, 0)
        seen[task.name] = place + 1
        (chosen if place % 4 == 1 else searched).append(number)
    if not chosen:
        raise RequestError(
            f"A search needs examples to choose on beside those that it follows, two of a task at least; {len(rows)} "
            "are given, and no two of one task."
        )
    return searched, chosen
