"""Coalition sizes that sampling plans go through."""

from cokv_bench.errors import RequestError


def paper_slices(players: int) -> tuple[int, ...]:
    """The coalition sizes that CoKV samples (arXiv 2502.17501): players/8, /4, 3/8 and /2.

    Rounded half up, at least 1, duplicates merged, ascending: 32, 64, 96, 128 of 256.

    Raises:
        RequestError: fewer than one player.
    """
    check_players(players)
    return tuple(sorted({max(1, (eighths * players + 4) // 8) for eighths in (1, 2, 3, 4)}))


def all_strata(players: int) -> tuple[int, ...]:
    """Every coalition size of the complementary-contribution Shapley estimator (Zhang et al., SIGMOD 2023).

    The whole set comes first: a pair of size s also informs the stratum players - s, so after half a
    round every stratum has been seen.

    Raises:
        RequestError: fewer than one player.
    """
    check_players(players)
    return (players, *range(1, players))


def check_players(players: int) -> None:
    """Raises RequestError where there is no player."""
    if players < 1:
        raise RequestError(f"A game needs at least one player, not {players}.")
