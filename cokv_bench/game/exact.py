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


def exact_banzhaf(utility: Utility, players: int) -> FloatArray:
    """Banzhaf values (not normalised) from all 2**players coalitions.

    The mean of U(S with i) - U(S) over all S without i.

    Args:
        utility: as in `exact_shapley`.
        players: 1 to 20.

    Returns:
        float64 [players].

    Raises:
        RequestError: as `exact_shapley`.
    """
    coalitions = all_coalitions(players)
    worth = evaluate(utility, coalitions)
    values: FloatArray = worth @ np.where(coalitions, 1.0, -1.0) / 2 ** (players - 1)
    return values


def exact_cc(utility: Utility, players: int, slices: Sequence[int]) -> FloatArray:
    """Centred sliced values from all 2**players coalitions: what the estimator `cc` estimates.

    Half the mean over the slices s of E[c(S) | i in S, |S| = s] - E[c(S) | i not in S, |S| = s] with
    c(S) = U(S) - U(N without S). Slices above players/2 are folded to players - s, full and empty coalitions tell
    nothing, and a slice given twice counts once. Where they are all sizes 1 to players/2, each
    counts 1/players and the size players/2, which is its own complement, half of that: exactly the Shapley values less
    their mean.

    Args:
        utility: as in `exact_shapley`.
        players: 1 to 20.
        slices: coalition sizes, each from 1 to `players`, at least one of them below unless there is one player.

    Returns:
        float64 [players]; they sum to zero.

    Raises:
        RequestError: as `exact_sliced`, or only the full coalition as slice.
    """
    coalitions = all_coalitions(players)
    folds = sorted({min(size, players - size) for size in slices} - {0})
    if not all(1 <= size <= players for size in slices) or not (folds or (players == 1 and slices)):
        raise RequestError(
            f"The slices {list(slices)} must be coalition sizes from 1 to {players}, at least one of them smaller."
        )
    worth = evaluate(utility, coalitions)
    contribution = worth - worth[::-1]
    sizes = coalitions.sum(axis=1)
    complete = len(folds) == players // 2
    values = np.zeros(players)
    for size in folds:
        chosen = sizes == size
        inside, c = coalitions[chosen], contribution[chosen]
        gap = c @ inside / inside.sum(axis=0) - c @ ~inside / (~inside).sum(axis=0)
        if complete:
            values += gap / (2 * players if 2 * size == players else players)
        else:
            values += gap / (2 * len(folds))
    return values
