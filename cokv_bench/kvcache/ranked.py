"""How likely an answer is when each head keeps its best-ranked tokens, with the gradient by the numbers of tokens.

Once a head's tokens lie in the order of their ranks, a budget is a prefix. Whether one more token belongs to it is a
step; its derivative is taken from a sigmoid around the step (a straight-through estimator, arXiv 1308.3432), so one
backward pass tells for all heads at once what a token more or less is worth. Nothing about the forward pass is soft.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.kvcache.others import RowCache
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.models.attention import AttendingLayer
from cokv_bench.models.form import Form
from cokv_bench.models.model import Model
from cokv_bench.models.rotary import canonical_length

# Width of the sigmoid, in tokens: a share of what a head keeps, and some for heads that keep little.
_WIDTH_SHARE = 0.2
_WIDTH = 2.0
# Widths beyond a head's last token that the derivative still sees.
_REACH = 4.0
# How far the score of a token that is not kept may exceed those that are: e^20 is much and no overflow.
_EXCESS = 20.0


def by_rank(prompt: Prompt, ranks: Tensor) -> Prompt:
    """The prompt with the keys and values of each head in another order: the window, then the tokens by rank.

    Args:
        ranks: int [layers, kv_heads, tokens - window], see `rank_positions`.
    """
    layers, kv_heads, beyond = ranks.shape
    recent = torch.arange(beyond, prompt.tokens).expand(layers, kv_heads, -1)
    order = torch.cat([recent, ranks.long().argsort(dim=2)], dim=2)

    def sort(part: Tensor, layer: int) -> Tensor:
        index = order[layer].to(part.device)
        # Made outside inference mode, so that autograd may keep it.
        return torch.empty_like(part).copy_(part.gather(1, index[:, :, None].expand(part.shape)))

    with torch.inference_mode(False):
        keys = [sort(part, layer) for layer, part in enumerate(prompt.keys)]
        values = [sort(part, layer) for layer, part in enumerate(prompt.values)]
    return replace(prompt, keys=keys, values=values, memo={}, shared={})


def relative_order(ranks: Tensor, base: Tensor) -> Tensor:
    """The order by some ranks, in places of a prompt that was sorted by others; int32, shaped as both."""
    return base.gather(2, ranks.long().argsort(dim=2)).int()


@dataclass(frozen=True)
class RankedRow:
    """An answer to score after a prompt.

    Attributes:
        prompt: ordered by `by_rank`.
        question: int64 [asked] ids that follow the prompt.
        answer: int64 [tokens] ids to score; without a question the first one is left out, since it depends on the
            prefill alone.
        kept: int64 [layers, kv_heads], tokens beyond the window that each head keeps.
        wanted: float32 [layers, kv_heads], the same before rounding, by which the result can be differentiated; None
            where no gradient is needed.
        order: int [layers, kv_heads, tokens - window], places in the order of the prompt, best first, where tokens are
            ranked in another order than that; None for the prompt's own.
        of_tokens: from the log-probabilities of the scored tokens, float [scored], to the row's score; their mean by
            default.
    """

    prompt: Prompt
    question: Tensor
    answer: Tensor
    kept: Tensor
    wanted: Tensor | None = None
    order: Tensor | None = None
    of_tokens: Callable[[Tensor], Tensor] = torch.mean

    @property
    def read(self) -> Tensor:
        """Ids that the model reads."""
        return torch.cat([self.question, self.answer[:-1]])

    @property
    def scored(self) -> Tensor:
        """Ids that are scored, those after the last positions of `read`."""
        return self.answer if len(self.question) else self.answer[1:]


def answer_logprobs(model: Model, rows: Sequence[RankedRow]) -> Tensor:
    """The score of each row's answer, float32 [rows]: its mean log-probability where the row does not say otherwise.

    All rows are read in one forward pass; of a model that is not run lean those of one prompt are, since a decoder and
    transformers' own caches know one position for all rows.
    """
    if model.verdict.lean:
        return _logprobs(model, rows)
    prompts: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        prompts.setdefault(id(row.prompt), []).append(number)
    found = torch.cat([_logprobs(model, [rows[number] for number in alike]) for alike in prompts.values()])
    order = torch.tensor([number for alike in prompts.values() for number in alike], device=found.device)
    return found[order.argsort()]


def _logprobs(model: Model, rows: Sequence[RankedRow]) -> Tensor:
    length = max(len(row.read) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    positions = torch.zeros(len(rows), length, dtype=torch.long)
    scored = torch.zeros(len(rows), length, dtype=torch.bool)
    for index, row in enumerate(rows):
        read = len(row.read)
        ids[index, :read] = row.read
        positions[index, :read] = row.prompt.tokens + torch.arange(read)
        scored[index, read - len(row.scored) : read] = True
    lengths = [_length(model, row) for row in rows]
    hidden = model.read(ids.to(model.device), positions.to(model.device), _RankedCache(rows), lengths)
    logits = model.logits(hidden[scored.to(hidden.device)])
    targets = torch.cat([row.scored for row in rows]).to(logits.device)
    found = torch.log_softmax(logits, dim=-1).gather(1, targets[:, None])[:, 0]
    lengths = [len(row.scored) for row in rows]
    return torch.stack([row.of_tokens(part) for row, part in zip(rows, found.split(lengths), strict=True)])


def _length(model: Model, row: RankedRow) -> int:
    """Length of the text whose rotary factors the row is read with. Raises `RequestError` if its keys have others."""
    text = row.prompt.tokens + len(row.question) + len(row.answer)
    length = max(text, row.prompt.length)
    if canonical_length(model.config, length) != canonical_length(model.config, row.prompt.length):
        raise RequestError(
            f"A prompt of {row.prompt.tokens} tokens was read with the rotary factors of a text of "
            f"{row.prompt.length}, and with its answer the text has {text}, which '{model.name}' reads with others; "
            f"prefill it with room={text - row.prompt.tokens}."
        )
    return length


class _RankedCache(RowCache):
    def __init__(self, rows: Sequence[RankedRow]) -> None:
        prompt = rows[0].prompt
        # Empty unless all rows are of one prompt, see `answer_logprobs`.
        self.lay([_RankedLayer(rows, layer) for layer in range(prompt.layers)], prompt.others.rows(len(rows)))

    def get_recurrent_state(self, *args: Any, **kwargs: Any) -> Tensor | None:
        """A copy, for the layer writes the new state over the one that a backward pass has to find as it was."""
        state: Tensor | None = super().get_recurrent_state(*args, **kwargs)
        return None if state is None else state.clone()


class _RankedLayer(AttendingLayer):
    def __init__(self, rows: Sequence[RankedRow], layer: int) -> None:
        super().__init__()
        self.parts = [_Part.of(row, layer) for row in rows]
        self.tokens = {row.prompt.tokens for row in rows}

    def get_seq_length(self) -> int:
        # Positions are given, and each row may have a length of its own; where all have one, layers may ask for it.
        return max(self.tokens) if len(self.tokens) == 1 else 0

    def attend(self, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        return torch.stack(
            [part.attend(query[row], key[row], value[row], form) for row, part in enumerate(self.parts)]
        ).transpose(1, 2)


@dataclass(frozen=True)
class _Part:
    """What one row reads of its prompt in one layer.

    Attributes:
        keys, values: [kv_heads, read, dim].
        weights: float32 [kv_heads, 1, read], 1 for what is kept and 0 for what is not, with the sigmoid's derivative.
    """

    keys: Tensor
    values: Tensor
    weights: Tensor

    @classmethod
    def of(cls, row: RankedRow, layer: int) -> "_Part":
        keys, values = row.prompt.keys[layer], row.prompt.values[layer]
        window = min(row.prompt.window, row.prompt.tokens)
        kept = row.kept[layer][:, None]
        reach = int(kept.max())
        if row.wanted is not None:
            wanted = row.wanted[layer][:, None]
            width = _WIDTH_SHARE * wanted.detach() + _WIDTH
            reach = max(reach, int((wanted.detach() + _REACH * width).max()))
        reach = min(reach, row.prompt.tokens - window)
        place = torch.arange(reach)
        weights = (place < kept).float()
        if row.wanted is not None:
            soft = torch.sigmoid((wanted - place - 0.5) / width)
            weights = weights + soft - soft.detach()
        weights = torch.cat([torch.ones(len(kept), window), weights], dim=1)[:, None].to(keys.device)
        if row.order is None:
            return cls(keys[:, : window + reach], values[:, : window + reach], weights)
        places = window + row.order[layer, :, :reach].long()
        places = torch.cat([torch.arange(window).expand(len(kept), -1), places], dim=1).to(keys.device)
        return cls(_at(keys, places), _at(values, places), weights)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        """[heads, new, dim], with the row's own [kv_heads, new, dim] tokens read causally."""
        kv_heads, new, dim = key.shape
        # Widened first, see `products`; of the keys only what a head keeps, or may come to keep, is here.
        grouped = query.reshape(kv_heads, -1, dim).float()
        prompt = form.cap(torch.matmul(grouped, self.keys.float().transpose(1, 2)) * form.scaling)
        own = form.cap(torch.matmul(grouped, key.float().transpose(1, 2)) * form.scaling)
        later = torch.ones(new, new, dtype=torch.bool, device=own.device).triu(1).repeat(grouped.shape[1] // new, 1)
        own = own.masked_fill(later, float("-inf"))
        # The peak of what is kept: a larger one that is not would let the others vanish.
        kept = prompt.detach().masked_fill(self.weights < 0.5, float("-inf"))
        peak = torch.maximum(kept.amax(-1, keepdim=True), own.detach().amax(-1, keepdim=True))
        sinks = form.sink_logits(kv_heads, grouped.shape[1])
        if sinks is not None:
            peak = torch.maximum(peak, sinks)
        prompt, own = (prompt - peak).clamp(max=_EXCESS).exp() * self.weights, (own - peak).exp()
        mass = prompt.sum(-1, keepdim=True) + own.sum(-1, keepdim=True)
        if sinks is not None:
            mass = mass + (sinks - peak).exp()
        read = torch.matmul((prompt / mass).to(value.dtype), self.values) + torch.matmul(
            (own / mass).to(value.dtype), value
        )
        return read.view(query.shape)


def _at(part: Tensor, places: Tensor) -> Tensor:
    """[kv_heads, places, dim] of [kv_heads, tokens, dim]."""
    return part.gather(1, places[:, :, None].expand(-1, -1, part.shape[2]))
