"""Scoring: how likely each of several texts is after one prompt, under one selection, as a batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.kvcache.batching import logit_rows, rows_at_a_time
from cokv_bench.kvcache.inputs import check_ids, check_read_by, one_row
from cokv_bench.kvcache.prefill import for_length
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.selection import Selection, check_shapes
from cokv_bench.kvcache.shared import SharedCache
from cokv_bench.models.finite import not_finite
from cokv_bench.models.model import Model
from cokv_bench.models.rotary import canonical_length


@dataclass(frozen=True)
class Score:
    """Of a text.

    Attributes:
        logprob: log-probability of all its tokens together, in nats.
        greedy: whether each of them is the most likely one after those before it.
    """

    logprob: float
    greedy: bool


@torch.inference_mode()
def score(
    model: Model,
    prompt: Prompt,
    selection: Selection,
    continuations: Sequence[Sequence[int]],
    *,
    question: Sequence[int] = (),
    memory: int | None = None,
) -> list[Score]:
    """Score texts that go on after a prompt of which a selection is kept.

    They are read as a batch over the one prompt cache, the shorter ones filled up at their end. Without a question the
    first token of each depends on the prefill alone, so no selection changes how likely it is.

    Where rotary factors depend on the length of the text, they are those of prompt, question and text together.

    Args:
        continuations: ids of each text.
        question: ids between the prompt and each text; they see only what is kept of the prompt.
        memory: bytes that the rows' own tokens may take; default 2 GiB.

    Returns:
        One Score a text, in order.

    Raises:
        RequestError: a text without tokens or beyond the context, ids outside the vocabulary, a selection made for
            another prompt, or logits that are not finite.
    """
    check_read_by(model, prompt)
    check_shapes(prompt, [selection])
    rows = [one_row(ids) for ids in continuations]
    if not all(row.numel() for row in rows):
        raise RequestError("A text to be scored has at least one token.")
    between = one_row(question)
    for ids in (between, *rows):
        check_ids(model, ids)
    asked, continuations = between.tolist(), [row.tolist() for row in rows]
    # The last token of a text is never fed back.
    longest = prompt.tokens + len(asked) + max(map(len, continuations), default=1) - 1
    if longest > model.context:
        raise RequestError(
            f"A prompt and a text to be scored of {longest + 1} tokens exceed the context of '{model.name}', "
            f"{model.context} tokens; shorten either."
        )
    # Texts of like length side by side, so that little of a batch is filling; each batch has the same rotary factors.
    order = sorted(range(len(continuations)), key=lambda number: len(continuations[number]))
    before = prompt.tokens + len(asked)
    groups = groupby(order, key=lambda number: canonical_length(model.config, before + len(continuations[number])))
    found: dict[int, Score] = {}
    for _, members in groups:
        numbers = list(members)
        width = len(asked) + len(continuations[numbers[-1]])
        read = for_length(model, prompt, prompt.tokens + width)
        limit = rows_at_a_time(model, read, tokens_a_pass=width, reserve=width, memory=memory)
        for start in range(0, len(numbers), limit):
            batch = numbers[start : start + limit]
            scores = _score(model, read, selection, asked, [list(continuations[number]) for number in batch])
            found.update(zip(batch, scores, strict=True))
    return [found[number] for number in range(len(continuations))]


def _score(
    model: Model, prompt: Prompt, selection: Selection, question: list[int], texts: Sequence[list[int]]
) -> list[Score]:
    # Without a question the prompt's own logits give the first token.
    found = [[] if question else [_likely(prompt.logits[None], text[:1])] for text in texts]
    rows = [[*question, *text] for text in texts]
    # The last token of a text is never fed back.
    width = max(map(len, rows)) - 1
    if width:
        ids = torch.tensor([[*row[:-1], *[0] * (width + 1 - len(row))] for row in rows])
        cache = SharedCache(prompt, [selection] * len(texts), width)
        hidden = model.hidden(ids, prompt.tokens, cache, max(prompt.length, prompt.tokens + width + 1))
        some = logit_rows(model, prompt)
        for mine, row, states in zip(found, rows, hidden, strict=True):
            for start in range(max(0, len(question) - 1), len(row) - 1, some):
                goals = row[start + 1 : start + 1 + some]
                mine.append(_likely(model.logits(states[start : start + len(goals)]), goals))
    scores = [Score(sum(logprob for logprob, _ in each), all(greedy for _, greedy in each)) for each in found]
    if not all(math.isfinite(each.logprob) for each in scores):
        raise not_finite(model, "log-probabilities of an answer")
    return scores


def _likely(logits: Tensor, token_ids: Sequence[int]) -> tuple[float, bool]:
    """The summed log-probability of ids under logits [ids, vocabulary], and whether each is the most likely one."""
    goals = torch.tensor(token_ids, device=logits.device)[:, None]
    logprobs = torch.log_softmax(logits, -1).gather(-1, goals)
    return float(logprobs.double().sum()), bool((logits.argmax(-1, keepdim=True) == goals).all())
