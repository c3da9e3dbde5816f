"""The keys and values of many prompts' rows side by side: one flat buffer a layer, which rows enter and leave."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.selection import Selection
from cokv_bench.kvcache.shared import distinct_sets, suffix_starts
from cokv_bench.kvcache.tiling import Tiling
from cokv_bench.models.attention import AttendingLayer
from cokv_bench.models.form import Form


class Kernel(Protocol):
    """Attention of one new token a row; see `triton_decode.decode_attention`."""

    def __call__(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        plan: Tiling,
        own_starts: Tensor,
        own_counts: Tensor | int,
        scaling: float,
    ) -> Tensor: ...


class Space:
    """Which slots of a buffer are free."""

    def __init__(self, first: int, end: int) -> None:
        self._free = [(first, end)]

    def take(self, size: int) -> int | None:
        """The first slot of `size` free ones side by side, which then are no longer free; None where there are none."""
        for number, (first, end) in enumerate(self._free):
            if end - first >= size:
                self._free[number : number + 1] = [(first + size, end)] if end - first > size else []
                return first
        return None

    def give_back(self, first: int, size: int) -> None:
        """Let slots be free again."""
        merged: list[tuple[int, int]] = []
        for begin, end in sorted([*self._free, (first, first + size)]):
            if merged and merged[-1][1] == begin:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((begin, end))
        self._free = merged


@dataclass(frozen=True, eq=False)
class Placed:
    """Where the rows of a prompt lie in a pool.

    Attributes:
        starts, lengths: int64 [layers, rows, kv_heads], first slot and number of the kept prompt tokens of a segment.
        own_starts: int64 [layers, rows, kv_heads], first slot of the tokens that its row generates.
        blocks: of each layer, first slot and number of all that is the prompt's.
    """

    starts: Tensor
    lengths: Tensor
    own_starts: Tensor
    blocks: list[tuple[int, int]] = field(repr=False)


class Pool:
    """Slots for the keys and values of a model's layers.

    A head that keeps the end of its prompt, or all of it, is read from one copy of that stretch whatever the number of
    such rows: FullKV's row and coalitions of the game cost little more than their own tokens. Slot 0 is nobody's: rows
    that only fill up a batch write there.

    Attributes:
        layers: in order; their tables are set by who decodes.
        cache: for the network.
    """

    def __init__(self, slots: int, like: Prompt, kernel: Kernel) -> None:
        """`slots`: of each layer; `like`: a prompt of the model, for shapes, type and device."""
        self.layers = [
            PoolLayer(keys.new_empty(slots, keys.shape[-1]), values.new_empty(slots, values.shape[-1]), kernel)
            for keys, values in zip(like.keys, like.values, strict=True)
        ]
        self.cache: Any = Cache(layers=list(self.layers))
        self.slots = slots
        self._spaces = [Space(1, slots) for _ in self.layers]

    def place(self, laid: "Layout") -> Placed | None:
        """Copy what rows keep and reserve their room for new tokens; None where there is no room now."""
        blocks: list[tuple[int, int]] = []
        for space, size in zip(self._spaces, laid.sizes, strict=True):
            first = space.take(size)
            if first is None:
                self._free(blocks)
                return None
            blocks.append((first, size))
        for number, (layer, (first, _)) in enumerate(zip(self.layers, blocks, strict=True)):
            head, position, slot = laid.copies[number]
            layer.keys_flat.index_copy_(0, slot + first, laid.prompt.keys[number][head, position])
            layer.values_flat.index_copy_(0, slot + first, laid.prompt.values[number][head, position])
        bases = torch.tensor([first for first, _ in blocks])[:, None, None]
        return Placed(laid.starts + bases, laid.lengths, laid.own_starts + bases, blocks)

    def free(self, placed: Placed) -> None:
        """Let others have the slots of a prompt's rows."""
        self._free(placed.blocks)

    def _free(self, blocks: list[tuple[int, int]]) -> None:
        for space, (first, size) in zip(self._spaces, blocks, strict=False):
            space.give_back(first, size)


class PoolLayer(AttendingLayer):
    """One layer of a pool; rows read and write where its tables say.

    Attributes:
        keys_flat, values_flat: [slots, dim].
        plan: the tiles of the rows' kept tokens.
        own_starts: int32 [rows, kv_heads], the slot of the first token that a row generated.
        own_counts: int64 [rows], tokens that it has generated, the new one included.
    """

    plan: Tiling
    own_starts: Tensor
    own_counts: Tensor

    def __init__(self, keys_flat: Tensor, values_flat: Tensor, kernel: Kernel) -> None:
        super().__init__()
        self.keys_flat, self.values_flat, self._kernel = keys_flat, values_flat, kernel

    def get_seq_length(self) -> int:
        # Rows differ in it, and layers that are called one by one do not ask.
        return 0

    def attend(self, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        rows, heads, _, dim = query.shape
        # Computed on the device, so that a captured graph writes to another place at each replay.
        slots = (self.own_starts + self.own_counts[:, None] - 1).flatten()
        self.keys_flat.index_copy_(0, slots, key.reshape(-1, key.shape[-1]))
        self.values_flat.index_copy_(0, slots, value.reshape(-1, value.shape[-1]))
        return self.look(query.reshape(rows, heads, dim), form.scaling)[:, None]

    def look(self, query: Tensor, scaling: float) -> Tensor:
        """Attention of a token a row whose keys and values are there, [rows, heads, dim] to the same."""
        return self._kernel(
            query, self.keys_flat, self.values_flat, self.plan, self.own_starts, self.own_counts, scaling
        )


@dataclass(frozen=True, eq=False)
class Layout:
    """How rows of a prompt will lie in a block of each layer, in slots from its beginning.

    Attributes:
        starts, lengths, own_starts: see `Placed`.
        sizes: slots of each layer's block.
        copies: of each layer, what is copied: KV heads, positions and slots, int64 [copied] each, on its device.
    """

    prompt: Prompt
    starts: Tensor
    lengths: Tensor
    own_starts: Tensor
    sizes: list[int]
    copies: list[tuple[Tensor, Tensor, Tensor]] = field(repr=False)


def layout(prompt: Prompt, selections: Sequence[Selection], room: int) -> Layout:
    """How rows will lie: the stretches that heads share, what else is kept, rows outermost, and room for new tokens.

    Args:
        room: slots of each segment for new tokens.
    """
    sets, chosen = distinct_sets(selections)
    by_layer = chosen.transpose(1, 0, 2)  # [layers, rows, kv_heads]
    first, lengths = torch.from_numpy(suffix_starts(sets)[by_layer]), torch.from_numpy(sets.sum(1).numpy()[by_layer])
    shares = first >= 0
    stretches = torch.where(shares, first, prompt.tokens).amin(1)  # The first position that some row reads there.
    shared = prompt.tokens - stretches
    offsets = shared.cumsum(1) - shared
    alone = torch.where(shares, 0, lengths).flatten(1)
    ends = shared.sum(1, keepdim=True) + alone.cumsum(1)
    starts = torch.where(shares, (offsets - stretches)[:, None] + first, (ends - alone).view_as(lengths))
    segments = alone.shape[1]
    own = ends[:, -1:] + room * torch.arange(segments)
    copies = []
    for number, keys in enumerate(prompt.keys):
        masks = torch.stack([selection.mask(number) for selection in selections]) & ~shares[number][..., None]
        stretch = torch.arange(prompt.tokens) >= stretches[number][:, None]
        # One row more than there are, before them: the stretches.
        _, head, position = torch.cat([stretch[None], masks]).to(keys.device).nonzero(as_tuple=True)
        copies.append((head, position, torch.arange(len(head), device=keys.device)))
    sizes = (ends[:, -1] + room * segments).tolist()
    return Layout(prompt, starts, lengths, own.view_as(lengths), sizes, copies)
