"""Enumeration against closed forms and against the definition by orders of arrival."""

from itertools import permutations

import numpy as np
import pytest

from cokv_bench.errors import RequestError
from cokv_bench.game import exact_shapley, exact_sliced
from cokv_bench.game.coalitions import all_coalitions, complement_pairs, evaluate, from_hex, to_hex


def random_game(players, seed=0):
    worth = np.random.default_rng(seed).normal(size=2**players)
    return lambda coalitions: worth[coalitions @ (1 << np.arange(players))]


def test_additive_game_gives_each_player_its_weight():
    weights = np.array([3.0, -1.0, 0.5, 0.0])
    np.testing.assert_allclose(exact_shapley(lambda c: c @ weights, 4), weights, atol=1e-12)


def test_shapley_is_the_mean_marginal_contribution_over_all_orders():
    players = 5
    utility = random_game(players)
    expected = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        coalition = np.zeros((1, players), dtype=bool)
        before = utility(coalition)[0]
        for player in order:
            coalition[0, player] = True
            after = utility(coalition)[0]
            expected[player] += (after - before) / len(orders)
            before = after
    np.testing.assert_allclose(exact_shapley(utility, players), expected, atol=1e-12)


@pytest.mark.parametrize("players", [1, 2, 3, 6, 9])
def test_sliced_over_all_sizes_is_the_shapley_value(players):
    utility = random_game(players, seed=players)
    sliced = exact_sliced(utility, players, range(1, players + 1))
    np.testing.assert_allclose(sliced, exact_shapley(utility, players), atol=1e-12)


def test_sliced_value_of_one_slice_from_its_definition():
    utility = random_game(4)
    rows = [row for row in all_coalitions(4) if row[2] and row.sum() == 2]
    expected = np.mean([utility(row[None])[0] - utility(~row[None])[0] for row in rows])
    assert exact_sliced(utility, 4, [2])[2] == pytest.approx(expected, abs=1e-12)


def test_utility_is_asked_in_chunks():
    asked = []

    def utility(coalitions):
        asked.append(len(coalitions))
        return coalitions.sum(axis=1)

    np.testing.assert_allclose(exact_shapley(utility, 13), 1.0)
    assert sum(asked) == 2**13
    assert max(asked) <= 4096


@pytest.mark.parametrize("players", [0, -1, 21])
def test_number_of_players_out_of_range(players):
    with pytest.raises(RequestError, match=f"{players} players cannot be enumerated"):
        exact_shapley(lambda c: c.sum(axis=1), players)


@pytest.mark.parametrize("slices", [[], [0], [4]])
def test_slices_out_of_range(slices):
    with pytest.raises(RequestError, match="coalition sizes from 1 to 3"):
        exact_sliced(lambda c: c.sum(axis=1), 3, slices)


def test_utility_of_a_wrong_shape_or_not_finite():
    coalitions = all_coalitions(3)
    with pytest.raises(RequestError, match=r"shape \[8, 3\]; expected \[8\]"):
        evaluate(lambda c: c.astype(float), coalitions)
    with pytest.raises(RequestError, match="coalition 7 is nan"):
        evaluate(lambda c: np.where(c.all(axis=1), np.nan, 0.0), coalitions)


@pytest.mark.parametrize("players", [1, 3, 4, 5, 8, 9, 90, 257])
def test_hex_round_trip(players):
    rows = np.random.default_rng(players).random((20, players)) < 0.4
    for row in rows:
        text = to_hex(row)
        assert len(text) == -(-players // 4)
        assert sum(2**i for i in range(players) if row[i]) == int(text, 16)
        np.testing.assert_array_equal(from_hex(text, players), row)


@pytest.mark.parametrize("text", ["", "8", "07", "-1", "0x7", "g", " 7", "A"])
def test_hex_that_is_no_coalition_of_three(text):
    with pytest.raises(ValueError, match=r".+"):
        from_hex(text, 3)


def test_pairs_by_lookup_with_repeats_and_a_missing_complement():
    a, b = np.array([1, 0, 0], bool), np.array([0, 1, 0], bool)
    rows = np.array([a, b, ~a, a, ~a])  # b was never paired
    first, second = complement_pairs(rows)
    assert list(zip(first, second, strict=True)) == [(0, 2), (3, 4)]
    first, second = complement_pairs(rows[:2])
    assert first.size == second.size == 0
