"""Coalitions as rows of booleans: enumeration, text form, evaluation, and pairs of complements."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cokv_bench.errors import RequestError

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: bool [coalitions, players] -> float [coalitions]; a function of the coalition alone.
Utility = Callable[[BoolArray], ArrayLike]

#: Most players whose 2**players coalitions are enumerated.
MAX_ENUMERATED = 20


def all_coalitions(players: int) -> BoolArray:
    """Every coalition, bool [2**players, players]; bit i of the row number is player i.

    Raises:
        RequestError: fewer than 1 or more than 20 players.
    """
    if not 1 <= players <= MAX_ENUMERATED:
        raise RequestError(
            f"{players} players cannot be enumerated; 1 to {MAX_ENUMERATED} can, for more players use an estimator."
        )
    rows = np.arange(2**players, dtype=np.uint32)
    return (rows[:, None] >> np.arange(players, dtype=np.uint32) & 1).astype(bool)


def to_hex(members: BoolArray) -> str:
    """The bit set of a coalition (bool [players], player i is bit i) as a hex number of ceil(players / 4) digits."""
    number = int.from_bytes(np.packbits(members, bitorder="little").tobytes(), "little")
    return f"{number:0{-(-members.size // 4)}x}"


def from_hex(text: str, players: int) -> BoolArray:
    """The coalition that `to_hex` wrote, bool [players].

    Raises:
        ValueError: not what `to_hex` writes for that many players.
    """
    number = int(text, 16)
    # int() would also take signs, prefixes and underscores.
    if text != f"{number:0{-(-players // 4)}x}" or not 0 <= number < 2**players:
        raise ValueError(f"{text!r} is no coalition of {players} players")
    packed = np.frombuffer(number.to_bytes(-(-players // 8), "little"), dtype=np.uint8)
    return np.unpackbits(packed, count=players, bitorder="little").astype(bool)


def evaluate(utility: Utility, coalitions: BoolArray, chunk: int = 4096) -> FloatArray:
    """Utilities of coalitions (bool [m, players]), float64 [m], asking for at most `chunk` at a time.

    Raises:
        RequestError: the utility answers with another shape or with a number that is not finite.
    """
    parts = [np.empty(0)]
    for start in range(0, len(coalitions), chunk):
        asked = coalitions[start : start + chunk]
        answer = np.asarray(utility(asked), dtype=np.float64)
        if answer.shape != (len(asked),):
            raise RequestError(
                f"The utility answered {len(asked)} coalitions with an array of shape {list(answer.shape)}; "
                f"expected [{len(asked)}]."
            )
        if not np.isfinite(answer).all():
            where = int(np.flatnonzero(~np.isfinite(answer))[0])
            raise RequestError(
                f"The utility of coalition {to_hex(asked[where])} is {answer[where]}; it must be finite."
            )
        parts.append(answer)
    return np.concatenate(parts)


def complement_pairs(coalitions: BoolArray) -> tuple[IntArray, IntArray]:
    """Rows that are complements of each other, every row used at most once.

    A coalition that was sampled several times pairs several times. Rows whose complement is missing (a run that stopped
    between the two) are left out.

    Args:
        coalitions: bool [m, players], in the order in which they were sampled.

    Returns:
        Row numbers of S and of its complement, int64 [pairs] each; S is the row that came first.
    """
    packed = np.packbits(coalitions, axis=1)
    opposite = np.packbits(~coalitions, axis=1)
    waiting: defaultdict[bytes, list[int]] = defaultdict(list)
    pairs: list[tuple[int, int]] = []
    for row in range(len(coalitions)):
        partners = waiting[opposite[row].tobytes()]
        if partners:
            pairs.append((partners.pop(), row))
        else:
            waiting[packed[row].tobytes()].append(row)
    found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    found = found[np.argsort(found[:, 0], kind="stable")]
    return found[:, 0], found[:, 1]
