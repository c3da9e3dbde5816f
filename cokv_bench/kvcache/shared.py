"""Decoding many selections over one prompt cache: a row a selection, each reading only what it keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cokv_bench.kvcache import flash
from cokv_bench.kvcache.generated import OwnTokens, own_token_scores
from cokv_bench.kvcache.others import RowCache
from cokv_bench.kvcache.products import scaled_products
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.selection import Selection, check_rows
from cokv_bench.models.attention import AttendingLayer
from cokv_bench.models.form import Form

# Scores that exist at a time: on a CPU few enough to stay in its cache between the two matrix products.
_SCORE_BYTES = 4 * 2**20
_DEVICE_SCORE_BYTES = 256 * 2**20


class SharedCache(RowCache):
    """Rows that read the same prompt keys and values; only generated tokens are a row's own.

    The prompt's KV exists once however many rows there are, and none of it is copied. A row whose head keeps the last
    tokens of the prompt (the window of a head outside a coalition, or everything) reads just these; what other
    selections have dropped is masked inside attention. So this cache is the fast way to evaluate selections, not a
    way to save memory; `RaggedCache` is.
    """

    def __init__(self, prompt: Prompt, selections: Sequence[Selection], reserve: int) -> None:
        """
        Args:
            reserve: the most tokens that a row will add.

        Raises:
            RequestError: no selection, or one that was made for another prompt.
        """
        check_rows(prompt, selections)
        sets, chosen = distinct_sets(selections)
        starts = suffix_starts(sets)
        layers = []
        for index in range(prompt.layers):
            keys = prompt.keys[index]
            blocks = _blocks(sets, starts, chosen[:, index], keys.device)
            first = index == 0 and 0 not in prompt.others.layers
            layers.append(_SharedLayer(keys, prompt.values[index], blocks, len(selections), reserve, first=first))
        self.lay(layers, prompt.others.rows(len(selections)))


def distinct_sets(selections: Sequence[Selection]) -> tuple[Tensor, NDArray[np.int64]]:
    """The distinct sets of positions, bool [sets, tokens], and that of each row and head, [rows, layers, kv_heads]."""
    numbers: dict[bytes, int] = {}
    sets: list[Tensor] = []
    rows = []
    for selection in selections:
        keys = selection.set_keys()
        for key, positions in zip(keys, selection.sets, strict=True):
            if numbers.setdefault(key, len(sets)) == len(sets):
                sets.append(positions)
        rows.append(np.array([numbers[key] for key in keys])[selection.which.numpy()])
    return torch.stack(sets), np.stack(rows)


@dataclass
class _Block:
    """Rows that, in some heads, read the same stretch of the prompt: its tokens from `start` on.

    Attributes:
        heads: the KV heads, a range.
        rows: int64 [rows], ascending; None for all rows of the batch.
        start: first token that is read.
        dropped: bool [heads, rows, 1, tokens - start], what of it is not kept; None where all is.
    """

    heads: slice
    rows: Tensor | None
    start: int
    dropped: Tensor | None

    def keep(self, place: Tensor) -> "_Block | None":
        """The block in a batch where row r has become row `place[r]`, or is gone (-1)."""
        moved = place if self.rows is None else place[self.rows]
        stay = moved >= 0
        if self.dropped is not None:
            self.dropped = self.dropped[:, stay]
        if self.rows is not None:
            self.rows = moved[stay]
            return self if len(self.rows) else None
        return self


def suffix_starts(sets: Tensor) -> NDArray[np.int64]:
    """Where each set begins if it is the end of the prompt, and -1 for one with holes, which needs a mask."""
    tokens = sets.shape[1]
    sizes = sets.sum(dim=1).numpy()
    first = np.where(sizes > 0, sets.numpy().argmax(axis=1), tokens)
    return np.where(first + sizes == tokens, first, -1)


def _blocks(
    sets: Tensor, starts_of_sets: NDArray[np.int64], chosen: NDArray[np.int64], device: torch.device
) -> list[_Block]:
    """The blocks of a layer; `chosen` [rows, kv_heads] is the set of each row and head."""
    rows, kv_heads = chosen.shape
    starts = starts_of_sets[chosen]
    if len(np.unique(starts)) == 1:
        groups = [(slice(0, kv_heads), np.arange(rows), int(starts[0, 0]))]
    else:
        groups = [
            (slice(head, head + 1), np.flatnonzero(starts[:, head] == start), int(start))
            for head in range(kv_heads)
            for start in np.unique(starts[:, head])
        ]
    return [
        _Block(
            heads,
            None if len(members) == rows else torch.from_numpy(members).to(device),
            max(start, 0),
            None if start >= 0 else (~sets[chosen[members][:, heads].T])[:, :, None].to(device),
        )
        for heads, members, start in groups
    ]


class _SharedLayer(AttendingLayer):
    def __init__(
        self, keys: Tensor, values: Tensor, blocks: list[_Block], rows: int, reserve: int, *, first: bool
    ) -> None:
        super().__init__()
        self.prompt_keys, self.prompt_values, self.blocks, self.first = keys, values, blocks, first
        self.own = OwnTokens(rows, keys.shape[0], reserve, keys)

    def get_seq_length(self) -> int:
        return self.prompt_keys.shape[1] + self.own.count

    def keep_rows(self, rows: Tensor) -> None:
        place = torch.full((len(self.own.keys),), -1, device=self.prompt_keys.device)
        place[rows] = torch.arange(len(rows), device=place.device)
        self.own.keep_rows(rows)
        self.blocks = [kept for block in self.blocks if (kept := block.keep(place)) is not None]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        rows, heads, new, dim = query.shape
        kv_heads = key.shape[1]
        # The input of the first layer is the token alone, so as long as the rows' tokens are the same ones, each
        # distinct stretch is read once for all rows.
        alike = self.first and self.own.count == 0 and _alike(query) and _alike(key)
        own_keys, own_values = self.own.append(key, value)
        # [rows, kv_heads, group * new, dim]: the queries of a KV head are the rows of one matrix product.
        grouped = query.reshape(rows, kv_heads, -1, dim)
        if flash.serves(query.device, form) and all(block.dropped is None for block in self.blocks):
            own = flash.over_own(grouped, own_keys, own_values, form, new)
            out = flash.joined(self._read_unmasked(grouped, form, alike), own, form)
            return out.view(rows, heads, new, dim).transpose(1, 2)
        own_scores = own_token_scores(grouped, own_keys, form, new)
        own_weights = torch.empty_like(own_scores)
        out = torch.empty_like(grouped)
        for block in self.blocks:
            self._read(block, grouped, own_scores, form, alike, out, own_weights)
        out += torch.matmul(own_weights.to(query.dtype), own_values)
        return out.view(rows, heads, new, dim).transpose(1, 2)

    def _read_unmasked(self, grouped: Tensor, form: Form, alike: bool) -> flash.Part:
        """The prompt's part of attention where no block needs a mask."""
        out = torch.zeros_like(grouped)
        mass = torch.full(grouped.shape[:-1], float("-inf"))
        for block in self.blocks:
            keys, values = self.prompt_keys[block.heads, block.start :], self.prompt_values[block.heads, block.start :]
            if not keys.shape[1]:
                continue
            place = (slice(None) if block.rows is None else block.rows, block.heads)
            asking = grouped[place][:1] if alike else grouped[place]
            # [heads, rows * queries, dim]: one product for all rows.
            part = flash.over_shared(asking.transpose(0, 1).flatten(1, 2), keys, values, form.scaling)
            shape = (len(asking), grouped.shape[2])
            out[place] = part.out.unflatten(1, shape).transpose(0, 1)
            mass[place] = part.mass.unflatten(1, shape).transpose(0, 1)
        return flash.Part(out, mass)

    def _read(
        self,
        block: _Block,
        grouped: Tensor,
        own_scores: Tensor,
        form: Form,
        alike: bool,
        out: Tensor,
        own_weights: Tensor,
    ) -> None:
        """Attention of a block's rows: fills `out` with the prompt's part and `own_weights` for the other part.

        One softmax runs over the prompt's tokens and the row's own, so the two parts add up.
        """
        keys, values = self.prompt_keys[block.heads, block.start :], self.prompt_values[block.heads, block.start :]
        count, length, queries = own_scores.shape[-1], keys.shape[1], grouped.shape[2]
        rows = len(grouped) if block.rows is None else len(block.rows)
        # A place beside the tokens takes part in the softmax, and in nothing else.
        sinks = form.sink_logits(grouped.shape[1], queries)
        places = length + count + (sinks is not None)
        once = alike and block.dropped is None
        # As many rows at a time as fit the scores; where one is too many, some of its queries.
        room = _SCORE_BYTES if keys.device.type == "cpu" else _DEVICE_SCORE_BYTES
        fitting = max(1, room // (4 * len(keys) * (length + count)))
        rows_at_a_time, some = max(1, fitting // queries), min(fitting, queries)
        if once:
            rows, rows_at_a_time = 1, 1
        for start, query in product(range(0, rows, rows_at_a_time), range(0, queries, some)):
            end = min(rows, start + rows_at_a_time)
            part = slice(start, end) if block.rows is None else block.rows[start:end]
            place = (part, block.heads, slice(query, query + some))
            wanted = grouped[place].transpose(0, 1)  # [heads, rows, queries, dim]
            shape = wanted.shape[1:3]
            scores = own_scores.new_empty(len(keys), shape.numel(), places)
            scaled_products(wanted.flatten(1, 2), keys, form.scaling, scores[..., :length])
            if form.softcap is not None:
                scores[..., :length] = form.cap(scores[..., :length])
            if block.dropped is not None:
                scores[..., :length].unflatten(1, shape).masked_fill_(block.dropped[:, start:end], float("-inf"))
            scores[..., length : length + count] = own_scores[place].transpose(0, 1).flatten(1, 2)
            if sinks is not None:
                scores[..., -1] = sinks[place[1:]].transpose(1, 2).expand(-1, shape[0], -1).flatten(1, 2)
            torch.softmax(scores, dim=-1, out=scores)
            read = torch.bmm(scores[..., :length].to(values.dtype), values)
            if once:
                place = (slice(None) if block.rows is None else block.rows, *place[1:])
            out[place] = read.unflatten(1, shape).transpose(0, 1)
            own_weights[place] = scores[..., length : length + count].unflatten(1, shape).transpose(0, 1)


def _alike(tensor: Tensor) -> bool:
    """Whether all rows hold the same."""
    return torch.equal(tensor[1:], tensor[:-1])
