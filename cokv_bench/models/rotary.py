"""Rotary factors of a text: some scalings choose them by how long the whole text is.

`longrope` (Phi-3) has short factors for texts up to the window that the model was first trained with and long ones
beyond it; `dynamic` has other factors for each length beyond that window. A cache holds keys that are rotated already,
so all tokens of a text must be read with the factors of the same length. The other scalings never change theirs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cokv_bench.models.support import rope_of


def canonical_length(config: Any, length: int) -> int:
    """The shortest text that has the rotary factors of a text of `length` tokens."""
    kind, window = _kind(config), _window(config)
    if kind == "longrope":
        return 1 if length <= window else window + 1
    if "dynamic" in kind:
        return 1 if length <= window else length
    return 1


def read_again_after(config: Any, length: int) -> int | None:
    """How long a text of `length` tokens may grow before transformers' `generate` reads all of it again.

    None where it never does: the factors stay, or, with `dynamic`, earlier keys keep those that they have.
    """
    window = _window(config)
    return window if _kind(config) == "longrope" and length <= window else None


def by_length(config: Any) -> bool:
    """Whether some texts have other rotary factors than others."""
    return _kind(config) == "longrope" or "dynamic" in _kind(config)


def rotary_factors(decoder: Any, hidden: Tensor, positions: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Cosines and sines [rows, new, dim] of `positions` [rows, new], which do not depend on what was read before.

    Args:
        hidden: gives their dtype and device.
        lengths: of each row's whole text, in tokens, or one for all rows; above every position of the row.
    """
    if not by_length(decoder.config):
        cosines, sines = decoder.rotary_emb(hidden, position_ids=positions)
        return cosines, sines
    distinct = {canonical_length(decoder.config, length) for length in lengths}
    if len(distinct) > 1:
        rows = [
            rotary_factors(decoder, hidden, row, [length])
            for row, length in zip(positions.split(1), lengths, strict=True)
        ]
        return torch.cat([cosines for cosines, _ in rows]), torch.cat([sines for _, sines in rows])
    # The module takes the highest position for the text's last one.
    last = positions.new_full((len(positions), 1), max(lengths) - 1)
    _forget(decoder, hidden, positions)
    cosines, sines = decoder.rotary_emb(hidden, position_ids=torch.cat([positions, last], dim=1))
    _forget(decoder, hidden, positions)
    return cosines[:, :-1], sines[:, :-1]


def _forget(decoder: Any, hidden: Tensor, positions: Tensor) -> None:
    """`dynamic` keeps the factors of the longest text that it has seen, until it sees a short one."""
    if "dynamic" in _kind(decoder.config):
        decoder.rotary_emb(hidden, position_ids=positions.new_zeros(1, 1))


def _kind(config: Any) -> str:
    return str(rope_of(config).get("rope_type", "default"))


def _window(config: Any) -> int:
    """Tokens of the window that the factors are made for; of no meaning where they never change."""
    if _kind(config) == "longrope":
        return int(rope_of(config)["original_max_position_embeddings"])
    return int(config.max_position_embeddings)
