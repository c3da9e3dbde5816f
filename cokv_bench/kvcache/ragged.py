"""A compact cache that holds only what a selection keeps: one flat buffer a layer, heads of unequal length."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from cokv_bench.checks import check_count
from cokv_bench.errors import RequestError
from cokv_bench.kvcache.others import OtherLayers, RowCache
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.selection import Selection, check_rows
from cokv_bench.kvcache.tiling import Tiling, Workspace
from cokv_bench.models.attention import AttendingLayer, formed_attention
from cokv_bench.models.form import Form

#: Tokens that there is room for before a buffer has to grow.
RESERVE = 256


class RaggedCache(RowCache):
    """The kept keys and values of each selection (a row each), copied out of the prompt; the rest can be freed.

    Layers of a hybrid network that are not evicted come along, a copy a row.

    It is a cache like any other to transformers: `model.generate(ids, past_key_values=RaggedCache(prompt, [choice]))`
    goes on from it, where `ids` [rows, tokens + 1] are the prompt's and the first generated one. Rotary positions stay
    as they were, and new tokens continue after the prompt's last position. Beam search, which moves rows, is not
    supported. Where the rotary factors of its keys hold only for texts of some length (longrope), going on beyond it is
    refused: `generate` would otherwise put a full cache in this one's place, without a word.
    """

    _limit: int | None

    def __init__(self, prompt: Prompt, selections: Sequence[Selection], reserve: int = RESERVE) -> None:
        """
        Args:
            reserve: tokens a row that there is room for at first; more make the buffers grow, by as many each time.

        Raises:
            RequestError: no selection, or one that was made for another prompt, or no number of tokens.
        """
        check_count(reserve, 0, "The room of a row before its buffers grow")
        check_rows(prompt, selections)
        layers = [
            RaggedLayer(
                prompt.keys[index], prompt.values[index], torch.stack([s.mask(index) for s in selections]), reserve
            )
            for index in range(prompt.layers)
        ]
        self._take(layers, prompt.others.rows(len(selections)), prompt.form(0))
        self._limit = prompt.read_again_after

    @classmethod
    def of_layers(
        cls,
        layers: Iterable["RaggedLayer"],
        limit: int | None = None,
        *,
        others: OtherLayers | None = None,
        form: Form | None = None,
    ) -> Self:
        """From the layers, in order.

        Args:
            limit: tokens of the longest text that their rotary factors hold for.
            others: the layers that are not evicted, with as many rows; the cache writes to them.
            form: how the layers attend; None for plain attention.
        """
        cache = cls.__new__(cls)
        cache._take(layers, others or OtherLayers(), form)
        cache._limit = limit
        return cache

    def _take(self, layers: Iterable["RaggedLayer"], others: OtherLayers, form: Form | None) -> None:
        self.lay(list(layers), others)
        self._plain = form is None or form.plain
        # Layers are read one after another, so one workspace serves them all.
        workspace = Workspace()
        for layer in self.evicted:
            layer.workspace = workspace

    @property
    def has_kernel(self) -> bool:
        """Whether one kernel serves all heads of a decoding step in each layer; elsewhere each head is a call."""
        return self._plain and not self.others and all(layer.has_kernel for layer in self.evicted)

    @property
    def kept_bytes(self) -> int:
        """Bytes of what is kept of the prompt."""
        return sum(layer.kept_bytes for layer in self.evicted)

    @property
    def reserved_bytes(self) -> int:
        """Bytes of the room for generated tokens, used or not."""
        return self.nbytes - self.kept_bytes

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values that are evicted, the room for generated tokens included."""
        return sum(layer.keys_flat.nbytes + layer.values_flat.nbytes for layer in self.evicted)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the text so far. `generate` asks before each step, and this is where it must not go on.

        Raises:
            RequestError: the next token would have other rotary factors than the keys.
        """
        length = super().get_seq_length(layer_idx)
        self._check(length + 1)
        return length

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """See `AttendingLayer.update`. Raises `RequestError` as `get_seq_length` does."""
        self._check(self.layers[layer_idx].get_seq_length() + key_states.shape[2])
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)

    def _check(self, length: int) -> None:
        if self._limit is not None and length > self._limit:
            raise RequestError(
                f"A text of {length} tokens goes beyond the {self._limit} at which this model changes its rotary "
                "factors (longrope), which a compact cache cannot cross; use `decode`, or a prompt and an answer that "
                "together stay within them, or a longer prompt."
            )

    def make_room(self, new: int) -> None:
        """Let the buffers grow, if they have to, before that many tokens a row are written.

        Raises `RequestError` as `get_seq_length` does: a replayed CUDA graph writes without asking.
        """
        self._check(self.evicted[0].get_seq_length() + new)
        for layer in self.evicted:
            layer.make_room(new)

    def advance(self, new: int) -> None:
        """Count tokens that a replayed CUDA graph has written."""
        for layer in self.evicted:
            layer.own += new


@cache
def decode_kernel(device: str) -> Any | None:
    """The module of the Triton kernel on devices that it runs on, where Triton is installed."""
    if device != "cuda":
        return None
    try:
        from cokv_bench.kvcache import triton_decode
    except ImportError:
        return None
    return triton_decode


class RaggedLayer(AttendingLayer):
    """One layer: a segment for each row and KV head, what it keeps of the prompt and then room for new tokens.

    Attributes:
        keys_flat, values_flat: [slots, dim], the segments one after another, rows outermost.
        lengths: int64 [rows, kv_heads] on the CPU, tokens of the prompt that each segment keeps.
        room: tokens beyond them that each segment has room for.
        own: tokens beyond them that each segment holds.
        laid: how often the segments have been laid anew. Addresses do not tell: new buffers can lie where old ones did.
    """

    keys_flat: Tensor
    values_flat: Tensor
    lengths: Tensor
    _plan: Tiling | None

    def __init__(self, keys: Tensor, values: Tensor, kept: Tensor, reserve: int = RESERVE) -> None:
        """From the full keys and values [kv_heads, tokens, dim] and what to keep, bool [rows, kv_heads, tokens]."""
        super().__init__()
        self.tokens, self.own, self.reserve, self.laid = keys.shape[1], 0, reserve, 0
        self.workspace: Workspace | None = None
        self.lengths = kept.sum(-1).cpu()
        _, head, position = kept.to(keys.device).nonzero(as_tuple=True)
        self._lay(keys[head, position], values[head, position], reserve)

    @property
    def kept_bytes(self) -> int:
        """Bytes of what is kept of the prompt."""
        return int(self.lengths.sum()) * (self.keys_flat[:1].nbytes + self.values_flat[:1].nbytes)

    @property
    def has_kernel(self) -> bool:
        """Whether one kernel serves all heads of a decoding step; elsewhere each head is a call."""
        return decode_kernel(self.keys_flat.device.type) is not None

    def get_seq_length(self) -> int:
        return self.tokens + self.own

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last generated tokens, as many as the number is below 0; the prompt's stay as they are.

        Raises:
            RequestError: a number above 0, which would be tokens that nobody has read.
        """
        if tokens_to_remove > 0:
            raise RequestError(f"A cache forgets tokens by a number below 0, such as -{tokens_to_remove}.")
        self.own = max(self.own + tokens_to_remove, 0)
        # Not counted back: what a graph that is being captured adds has not been added yet.
        self._places.copy_(self._next_places())

    def make_room(self, new: int) -> None:
        """See `RaggedCache.make_room`."""
        if self.own + new > self.room:
            self._lay(
                *self._packed(self._starts, self.lengths), max(self.room + (self.reserve or RESERVE), self.own + new)
            )

    def keep_rows(self, rows: Tensor) -> None:
        kept = rows.cpu()
        packed = self._packed(self._starts[kept], self.lengths[kept])
        self.lengths = self.lengths[kept]
        self._lay(*packed, self.room)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        rows, heads, new, dim = query.shape
        self._append(key, value)
        kernel = decode_kernel(query.device.type)
        if kernel is not None and new == 1 and form.plain:
            if self._plan is None:
                self._plan = Tiling.of(self._starts, self.lengths, device=query.device, workspace=self.workspace)
            flat = query.reshape(rows, heads, dim)
            own = self._places[-1:]
            out = kernel.decode_attention(
                flat, self.keys_flat, self.values_flat, self._plan, self._tails, own, form.scaling
            )
            return out[:, None]
        # The queries of a KV head are the rows of one matrix product.
        grouped = query.reshape(rows * key.shape[1], 1, 1, -1, dim)
        keys, values = self.keys_flat[None, None], self.values_flat[None, None]
        found = []
        for number, (queries, (start, kept)) in enumerate(zip(grouped, self._segments, strict=True)):
            length = kept + self.own
            part = slice(start, start + length)
            if not form.plain:
                # A query head a row; all read the same keys.
                alone = queries.view(1, -1, new, dim)
                sinks = None if form.sinks is None else form.sinks.view(key.shape[1], -1)[number % key.shape[1]]
                out = formed_attention(alone, keys[:, :, part], values[:, :, part], None, replace(form, sinks=sinks))
                found.append(out.view(1, 1, -1, values.shape[-1]))
                continue
            mask = _causal(queries.shape[2], new, length, query.device) if new > 1 else None
            found.append(
                F.scaled_dot_product_attention(
                    queries, keys[:, :, part], values[:, :, part], attn_mask=mask, scale=form.scaling
                )
            )
        return torch.cat(found).view(rows, heads, new, dim).transpose(1, 2)

    def _append(self, key: Tensor, value: Tensor) -> None:
        new = key.shape[2]
        self.make_room(new)
        # Read and moved on the device: a captured graph writes to another place at each replay.
        slots = self._places[:-1]
        if new > 1:
            slots = (slots[:, None] + torch.arange(new, device=slots.device)).flatten()
        self.keys_flat.index_copy_(0, slots, key.reshape(-1, key.shape[-1]))
        self.values_flat.index_copy_(0, slots, value.reshape(-1, value.shape[-1]))
        self._places += new
        self.own += new

    def _packed(self, starts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [held, dim] of the segments that begin there, one after another without room."""
        slots = _places(starts.flatten(), (lengths + self.own).flatten()).to(self.keys_flat.device)
        return self.keys_flat[slots], self.values_flat[slots]

    def _lay(self, keys: Tensor, values: Tensor, room: int) -> None:
        """Fill new buffers from what the segments hold, packed."""
        self.room = room
        self.laid += 1
        ends = (self.lengths + room).flatten().cumsum(0)
        self._starts = (ends - (self.lengths + room).flatten()).view(self.lengths.shape)
        self._segments = list(zip(self._starts.flatten().tolist(), self.lengths.flatten().tolist(), strict=True))
        # The first slot of a segment's room, int32 [rows, kv_heads].
        self._tails = (self._starts + self.lengths).int().to(keys.device)
        slots = _places(self._starts.flatten(), (self.lengths + self.own).flatten()).to(keys.device)
        total = int(ends[-1])
        with torch.inference_mode(False), torch.no_grad():  # So that plain `generate` may write to them.
            self.keys_flat = keys.new_empty(total, keys.shape[-1]).index_copy_(0, slots, keys)
            self.values_flat = values.new_empty(total, values.shape[-1]).index_copy_(0, slots, values)
            self._places = self._next_places()
        self._plan = None

    def _next_places(self) -> Tensor:
        """Where the next token of each segment goes, and last `own`: one addition counts all of them on."""
        own = torch.tensor([self.own], device=self._tails.device)
        return torch.cat([self._tails.flatten().long() + own, own])


def _places(starts: Tensor, sizes: Tensor) -> Tensor:
    """The slots of segments that begin at `starts` and have `sizes` tokens, in order."""
    ends = sizes.cumsum(0)
    return torch.arange(int(sizes.sum())) + (starts - (ends - sizes)).repeat_interleave(sizes)


def _causal(queries: int, new: int, length: int, device: torch.device) -> Tensor:
    """What each query of a segment sees, bool [group * new, length]; the new tokens are the last ones."""
    seen = torch.ones(new, length, dtype=torch.bool, device=device).tril(length - new)
    return seen.repeat(queries // new, 1)
