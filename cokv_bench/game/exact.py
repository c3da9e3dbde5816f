"""Exact values of small games by enumeration: what every estimator is held against."""

from collections.abc import Sequence
from math import comb

import numpy as np

from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import FloatArray, Utility, all_coalitions, evaluate


def exact_shapley(utility: Utility, players: int) -> FloatArray:
    """Shapley values from all 2**players coalitions, as weighted marginal contributions.

    Args:
        utility: bool [coalitions, players] -> float [coalitions]; called with up to 4096 coalitions at a time.
        players: 1 to 20.

    Returns:
        float64 [players]; they sum to the utility of all players less that of none.

    Raises:
        RequestError: too many players, or a utility with a wrong shape or a number that is not finite.
    """
    coalitions = all_coalitions(players)
    worth = evaluate(utility, coalitions)
    sizes = coalitions.sum(axis=1)
    weight = np.array([1 / (players * comb(players - 1, size)) for size in range(players)])
    values = np.empty(players)
    for player in range(players):
        # Bit `player` of the row number is the middle axis, so index 0 of it is "without".
        split = (-1, 2, 2**player)
        without, joined = np.moveaxis(worth.reshape(split), 1, 0)
        values[player] = np.sum(weight[sizes.reshape(split)[:, 0]] * (joined - without))
    return values


def exact_sliced(utility: Utility, players: int, slices: Sequence[int]) -> FloatArray:
    """Sliced Shapley values (CoKV, arXiv 2502.17501) from all 2**players coalitions.

    SSV_i is the mean over the slices j of E[U(S) - U(N without S) | i in S, |S| = j]. With all sizes 1 to `players`
    as slices it is the Shapley value; with fewer, the level and so the sign of the values mean nothing.

    Args:
        utility: as in `exact_shapley`.
        players: 1 to 20.
        slices: coalition sizes, each from 1 to `players`.

    Returns:
        float64 [players].

    Raises:
        RequestError: as `exact_shapley`, or no slice or one out of range.
    """
    coalitions = all_coalitions(players)
    if not slices or not all(1 <= size <= players for size in slices):
        raise RequestError(f"The slices {list(slices)} must be coalition sizes from 1 to {players}.")
    worth = evaluate(utility, coalitions)
    contribution = worth - worth[::-1]  # the complement of row r is row 2**players - 1 - r
    sizes = coalitions.sum(axis=1)
    values = np.zeros(players)
    for size in slices:
        chosen = sizes == size
        values += contribution[chosen] @ coalitions[chosen] / comb(players - 1, size - 1)
    return values / len(slices)
