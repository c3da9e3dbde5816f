"""Small games with exact values, enumerated elsewhere."""

import json

import numpy as np
import pytest

from cokv_bench.game import estimate, exact_banzhaf, exact_cc, exact_shapley, exact_sliced, paper_slices
from tests.golden.places import place

FOLDER = place("games")
GAMES = json.loads((FOLDER / "index.json").read_text())["games"]


@pytest.fixture(params=GAMES, ids=lambda game: game["id"])
def game(request):
    arrays = np.load(FOLDER / request.param["file"])
    bits = 1 << np.arange(request.param["n"])
    return request.param, arrays, lambda coalitions: arrays["u"][coalitions @ bits]


def test_exact_values(game):
    entry, arrays, utility = game
    players = entry["n"]
    assert paper_slices(players) == tuple(arrays["slices"])
    np.testing.assert_allclose(exact_shapley(utility, players), arrays["shapley"], atol=1e-9)
    np.testing.assert_allclose(exact_banzhaf(utility, players), arrays["banzhaf"], atol=1e-9)
    np.testing.assert_allclose(exact_sliced(utility, players, entry["slices"]), arrays["sliced_shapley"], atol=1e-9)
    for size in range(1, players + 1):
        expected = arrays["sv_stratum"][:, size - 1]
        np.testing.assert_allclose(exact_sliced(utility, players, [size]), expected, atol=1e-9)


def test_cc_from_the_strata(game):
    """The strata s and n - s without their levels, each slice once."""
    entry, arrays, utility = game
    players, strata = entry["n"], arrays["sv_stratum"] - arrays["sv_stratum"].mean(axis=0)
    shapley = arrays["shapley"] - arrays["shapley"].mean()
    np.testing.assert_allclose(exact_cc(utility, players, range(1, players)), shapley, atol=1e-9)
    for size in range(1, (players + 1) // 2 - 1):
        expected = (strata[:, size - 1] + strata[:, players - size - 1]) / 2
        np.testing.assert_allclose(exact_cc(utility, players, [size]), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "sampling", "key"),
    [
        ("ssv", "slices", "sliced_shapley"),
        ("ssv", "antithetic", "sliced_shapley"),
        ("shapley", "strata", "shapley"),
        ("shapley", "neyman", "shapley"),
        ("permutation", "permutation", "shapley"),
        ("kernelshap", "strata", "shapley"),
        ("banzhaf", "uniform", "banzhaf"),
    ],
)
def test_estimates_agree_within_their_errors(game, name, sampling, key):
    entry, arrays, utility = game
    runs = [estimate(utility, entry["n"], name, 2000, seed, sampling) for seed in range(60)]
    # An error of zero is right where opposite coalitions cancel exactly, up to rounding.
    covered = np.mean([np.abs(run.values - arrays[key]) <= 1.96 * run.standard_errors + 1e-12 for run in runs])
    assert 0.90 <= covered <= 0.99
    mean = np.mean([run.values for run in runs], axis=0)
    error = np.sqrt(np.mean([run.standard_errors**2 for run in runs], axis=0) / len(runs))
    assert (np.abs(mean - arrays[key]) < 4.5 * error + 1e-12).all()


@pytest.mark.parametrize("name", ["ssv", "shapley"])
def test_standard_errors_are_those_of_the_exact_variances(game, name):
    entry, arrays, utility = game
    players, samples = entry["n"], 20000
    strata = np.array(entry["slices"] if name == "ssv" else range(1, players + 1))
    # Of the pairs of one size s, the share s/players has the player inside. All strata: sizes s and players - s both
    # come once in a round, and each informs both strata.
    per_size = samples / len(strata)
    share = strata / players
    counts = per_size * share
    if name == "shapley":
        counts = counts + np.where(strata < players, per_size * share, 0)
    variances = arrays["sv_stratum_var"][:, strata - 1] / counts
    expected = np.sqrt(variances.sum(axis=1)) / len(strata)
    found = estimate(utility, players, name, samples=samples).standard_errors
    np.testing.assert_allclose(found, expected, rtol=0.06)
