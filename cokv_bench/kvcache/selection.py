"""Which prompt positions each KV head keeps: the one object that policies and coalitions both make."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from cokv_bench.checks import check_count
from cokv_bench.errors import RequestError, quoted

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


class Selection:
    """The prompt tokens that every KV head keeps after prefill.

    It lives on the CPU whatever the model runs on: it is small, it is compared and hashed, and the layers of one
    model may lie on several devices. Heads that keep the same positions share one set of them, so a coalition, with
    two sets, takes two rows of booleans however many heads play.

    Attributes:
        sets: bool [sets, tokens], the sets of positions that heads keep.
        which: int64 [layers, kv_heads], the set of each head.
    """

    sets: Tensor
    which: Tensor

    def __init__(self, kept: Tensor) -> None:
        """From bool [layers, kv_heads, tokens].

        Raises:
            RequestError: `kept` is not a bool tensor of three dimensions.
        """
        if not isinstance(kept, Tensor) or kept.dtype != torch.bool or kept.ndim != 3:
            raise RequestError("A selection is a bool tensor [layers, kv_heads, tokens].")
        # The caller may use its tensor for something else.
        self.sets = kept.to("cpu", copy=True).flatten(0, 1)
        self.which = torch.arange(len(self.sets)).view(kept.shape[:2])

    @classmethod
    def from_sets(cls, sets: Tensor, which: Tensor) -> Self:
        """From sets of positions, bool [sets, tokens], and the set of each head, int64 [layers, kv_heads]."""
        selection = cls.__new__(cls)
        selection.sets, selection.which = sets, which
        return selection

    @classmethod
    def full(cls, layers: int, kv_heads: int, tokens: int) -> Self:
        """Every head keeps every token."""
        which = torch.zeros(layers, kv_heads, dtype=torch.long)
        return cls.from_sets(torch.ones(1, tokens, dtype=torch.bool), which)

    @classmethod
    def from_coalition(cls, members: Any, tokens: int, window: int) -> Self:
        """The selection that a coalition of KV heads plays with (CoKV, arXiv 2502.17501).

        Args:
            members: bool [layers, kv_heads], torch, numpy or nested lists; members keep the whole prompt, the
                other heads its last `window` tokens.
            tokens: prompt length.
            window: observation window, in tokens.

        Raises:
            RequestError: members are not bool [layers, kv_heads], or a length is negative.
        """
        try:
            inside = torch.as_tensor(members).cpu()
        except (TypeError, ValueError, RuntimeError):
            raise RequestError(f"A coalition is bool [layers, kv_heads], not {quoted(members)}.") from None
        if inside.dtype != torch.bool or inside.ndim != 2:
            shape = tuple(inside.shape)
            raise RequestError(f"A coalition is bool [layers, kv_heads]; given {inside.dtype} of shape {shape}.")
        if tokens < 0:
            raise RequestError(f"A prompt cannot have {tokens} tokens.")
        _check_window(window)
        recent = torch.arange(tokens) >= tokens - window
        return cls.from_sets(torch.stack([recent, torch.ones_like(recent)]), inside.long())

    @classmethod
    def from_scores(cls, scores: Sequence[Any], counts: Any, window: int) -> Self:
        """Each head keeps its best-scored tokens and the window.

        Args:
            scores: one [kv_heads, tokens - window] a layer. Equal scores: the lower position first.
            counts: int [layers, kv_heads], tokens beyond the window; above tokens - window they are clipped.
            window: the last tokens of the prompt, which every head keeps.

        Raises:
            RequestError: shapes do not fit together, a score is NaN, or a count or the window is negative.
        """
        return cls.from_ranks(rank_positions(scores), counts, window)

    @classmethod
    def from_ranks(cls, ranks: Tensor, counts: Any, window: int) -> Self:
        """As `from_scores`, from the ranks that `rank_positions` gave: one sort then serves every budget."""
        _check_window(window)
        layers, kv_heads, _ = ranks.shape
        beyond = torch.as_tensor(counts).cpu()
        if tuple(beyond.shape) != (layers, kv_heads):
            raise RequestError(
                f"Counts have shape {tuple(beyond.shape)}, but the scores are of {layers} layers of {kv_heads} "
                f"KV heads: shape {(layers, kv_heads)} is needed."
            )
        if beyond.is_floating_point() or beyond.is_complex() or beyond.dtype == torch.bool:
            raise RequestError(f"Counts must be integers (tokens beyond the window); given {beyond.dtype}.")
        if (beyond < 0).any():
            raise RequestError("Counts are tokens beyond the window and cannot be negative.")
        best = ranks < beyond[:, :, None]
        return cls(torch.cat([best, best.new_ones(layers, kv_heads, window)], dim=2))

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.which.shape[0]

    @property
    def kv_heads(self) -> int:
        """KV heads a layer."""
        return self.which.shape[1]

    @property
    def tokens(self) -> int:
        """Length of the prompt, in tokens."""
        return self.sets.shape[1]

    @property
    def kept(self) -> Tensor:
        """bool [layers, kv_heads, tokens]."""
        return self.sets[self.which]

    @property
    def counts(self) -> Tensor:
        """int64 [layers, kv_heads]: tokens kept by each head, window included."""
        return self.sets.sum(dim=1)[self.which]

    @property
    def total(self) -> int:
        """Tokens kept by all heads together, window included."""
        return int(self.counts.sum())

    def mask(self, layer: int) -> Tensor:
        """bool [kv_heads, tokens] of one layer."""
        return self.sets[self.which[layer]]

    def positions(self, layer: int, head: int) -> Tensor:
        """int64, ascending: the prompt positions that one head keeps."""
        return self.sets[self.which[layer, head]].nonzero().flatten()

    def set_keys(self) -> list[bytes]:
        """16 bytes a set, the same for equal sets only (a hash of the positions)."""
        packed = np.packbits(self.sets.numpy(), axis=1)
        return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in packed]

    def key(self) -> bytes:
        """Bytes that are the same for equal selections only, to find duplicates."""
        keys = self.set_keys()
        shape = np.array([self.layers, self.kv_heads, self.tokens], dtype=np.int64).tobytes()
        heads = b"".join(keys[number] for number in self.which.flatten().tolist())
        return hashlib.blake2b(shape + heads, digest_size=16).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selection) and torch.equal(self.kept, other.kept)

    def __hash__(self) -> int:
        return hash(self.key())


def check_shapes(prompt: "Prompt", selections: Sequence[Selection]) -> None:
    """Refuse what is no list of selections, and those of another prompt. Raises `RequestError`."""
    if isinstance(selections, str) or not isinstance(selections, Sequence):
        raise RequestError(f"Rows are a list of selections, one for each, not {quoted(selections)}; write [selection].")
    for selection in selections:
        if not isinstance(selection, Selection):
            raise RequestError(f"{quoted(selection)} is no selection; a policy's `select` gives one for a prompt.")
    shape = (prompt.layers, prompt.kv_heads, prompt.tokens)
    for selection in selections:
        found = (selection.layers, selection.kv_heads, selection.tokens)
        if found != shape:
            raise RequestError(
                f"A selection for {found} layers, KV heads and tokens does not fit a prompt of {shape}; select on the "
                "prompt that is decoded."
            )


def check_rows(prompt: "Prompt", selections: Sequence[Selection]) -> None:
    """Refuse what no cache can be made of: no selection, or one of another prompt. Raises `RequestError`."""
    check_shapes(prompt, selections)
    if not selections:
        raise RequestError("There is no selection; give one for each row.")


def distinct(selections: Sequence[Selection]) -> tuple[list[Selection], list[int]]:
    """Those that keep different positions, and of each selection the number of the one that keeps the same."""
    numbers: dict[bytes, int] = {}
    found: list[Selection] = []
    for selection in selections:
        if numbers.setdefault(selection.key(), len(found)) == len(found):
            found.append(selection)
    return found, [numbers[selection.key()] for selection in selections]


def rank_positions(scores: Sequence[Any]) -> Tensor:
    """Rank of every token among its head's tokens: 0 is the best, equal scores rank the lower position first.

    Args:
        scores: one [kv_heads, tokens - window] a layer.

    Returns:
        int32 [layers, kv_heads, tokens - window], on the CPU.

    Raises:
        RequestError: there is no layer, the layers differ in shape, or a score is NaN.
    """
    layers = [torch.as_tensor(layer) for layer in scores]
    shapes = sorted({tuple(layer.shape) for layer in layers})
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise RequestError(f"Scores are one [kv_heads, tokens - window] per layer; given shapes {shapes}.")
    # NaN would sort as the largest score, so a broken forward pass would look like a choice of tokens.
    broken = [index for index, layer in enumerate(layers) if layer.isnan().any()]
    if broken:
        raise RequestError(f"Scores of layer {broken[0]} are NaN; try a wider dtype, such as float32.")
    return torch.stack([_rank_layer(layer) for layer in layers])


def _rank_layer(scores: Tensor) -> Tensor:
    # Only a stable sort keeps equal scores in the order of their positions.
    order = scores.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], dtype=torch.int32, device=order.device).expand(order.shape)
    return torch.empty_like(order, dtype=torch.int32).scatter_(1, order, places).cpu()


def _check_window(window: int) -> None:
    check_count(window, 0, "The observation window")
