"""Estimators against enumeration: right on average, honest about their error, and reproducible from stored rows."""

import numpy as np
import pytest

from cokv_bench.errors import RequestError
from cokv_bench.game import ESTIMATORS, Plan, estimate, exact_shapley, exact_sliced, get_estimator, paper_slices
from cokv_bench.game.coalitions import all_coalitions

PLAYERS = 7
WEIGHTS = np.array([0.1, 0.9, 0.4, 0.0, 1.5, 0.3, 0.6])


def saturating(coalitions):
    """Heads that help less the more of them there are, with two that need each other."""
    return 1 - np.exp(-(coalitions @ WEIGHTS)) + 0.3 * (coalitions[:, 0] & coalitions[:, 3])


def exact(name):
    if name == "ssv":
        return exact_sliced(saturating, PLAYERS, paper_slices(PLAYERS))
    return exact_shapley(saturating, PLAYERS)


@pytest.mark.parametrize("name", ["ssv", "shapley"])
def test_intervals_cover_the_exact_values(name):
    truth = exact(name)
    runs = [estimate(saturating, PLAYERS, name, samples=600, seed=seed) for seed in range(250)]
    covered = np.array([np.abs(run.values - truth) <= 1.96 * run.standard_errors for run in runs])
    assert 0.90 <= covered.mean() <= 0.99
    assert covered.mean(axis=0).min() > 0.85
    bias = np.mean([run.values for run in runs], axis=0) - truth
    spread = np.std([run.values for run in runs], axis=0)
    assert (np.abs(bias) < 4 * spread / np.sqrt(len(runs)) + 1e-12).all()


@pytest.mark.parametrize("name", ["ssv", "shapley"])
def test_error_falls_with_the_square_root_of_the_samples(name):
    truth = exact(name)

    def error(samples):
        runs = [estimate(saturating, PLAYERS, name, samples, seed).values - truth for seed in range(60)]
        return np.sqrt(np.mean(np.square(runs)))

    ratio = error(300) / error(4800)
    assert 3.2 < ratio < 4.8  # 16 times the samples: 4, were there no chance in it


@pytest.mark.parametrize("name", ["ssv", "shapley"])
def test_rows_in_another_place_give_the_same_values(name):
    """Complements are found by lookup, so a ledger may list all S first and all complements after."""
    rows = Plan(PLAYERS, ESTIMATORS[name].sizes(PLAYERS), seed=5).coalitions(0, 400)
    moved = np.concatenate([rows[0::2], rows[1::2]])
    # A complement of size 4 may be another pair's S, and lookup cannot tell which was meant: leave those out.
    rows, moved = (r[(r.sum(axis=1) != 3) & (r.sum(axis=1) != 4)] for r in (rows, moved))
    one, two = (ESTIMATORS[name].run(r, saturating(r)) for r in (rows, moved))
    np.testing.assert_allclose(one.values, two.values, atol=1e-12)
    np.testing.assert_allclose(one.standard_errors, two.standard_errors, atol=1e-12)


def test_estimators_run_on_the_rows_of_the_other():
    rows = Plan(PLAYERS, ESTIMATORS["shapley"].sizes(PLAYERS), seed=2).coalitions(0, 8000)
    run = ESTIMATORS["ssv"].run(rows, saturating(rows))
    assert run.samples < 4000
    assert (np.abs(run.values - exact("ssv")) < 5 * run.standard_errors).all()
    rows = np.concatenate([all_coalitions(PLAYERS)] * 2)
    run = ESTIMATORS["shapley"].run(rows, saturating(rows))
    np.testing.assert_allclose(run.values, exact("shapley"), atol=1e-12)


def test_standard_error_of_a_small_ledger_by_hand():
    # Two players, sizes 1 and 2 as slices {1}: U(none)=0, U({0})=1, U({1})=4, U(both)=6.
    rows = np.array([[1, 0], [0, 1], [0, 1], [1, 0], [1, 1], [0, 0]], dtype=bool)
    worth = np.array([1.0, 4.0, 4.0, 1.0, 6.0, 0.0])
    run = ESTIMATORS["ssv"].run(rows, worth)
    np.testing.assert_allclose(run.values, [-3.0, 3.0])
    np.testing.assert_allclose(run.standard_errors, 0.0)  # {i} is the only coalition of its cell
    run = ESTIMATORS["shapley"].run(rows, worth)
    np.testing.assert_allclose(run.values, [1.5, 4.5])


def test_strata_that_were_never_seen_leave_the_values_unknown():
    rows = Plan(5, (2,), seed=0).coalitions(0, 200)
    run = ESTIMATORS["shapley"].run(rows, rows.sum(axis=1) * 1.0)  # strata 1, 4 and 5 are missing
    assert np.isnan(run.values).all()
    assert np.isinf(run.standard_errors).all()


def test_standard_error_by_the_textbook():
    assert paper_slices(5) == (1, 2, 3)
    rows = Plan(5, (1, 2, 3), seed=0).coalitions(0, 120)
    # Noise: a repeated coalition has another utility each time, so no cell has a variance of zero.
    worth = np.random.default_rng(0).normal(size=len(rows))
    run = ESTIMATORS["ssv"].run(rows, worth)
    pairs = [(rows[k], worth[k] - worth[k + 1]) for k in range(0, len(rows), 2)]
    cells = [[c for s, c in pairs if s[4] and s.sum() == size] for size in (1, 2, 3)]
    assert min(map(len, cells)) >= 2
    assert run.values[4] == pytest.approx(np.mean([np.mean(cell) for cell in cells]))
    expected = np.sqrt(sum(np.var(cell, ddof=1) / len(cell) for cell in cells)) / 3
    assert run.standard_errors[4] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["ssv", "shapley"])
@pytest.mark.parametrize("samples", [1, 2, 5, 9])
def test_too_few_samples_never_claim_certainty(name, samples):
    run = estimate(lambda c: c @ np.arange(40.0), 40, name, samples=samples)
    assert np.isinf(run.standard_errors).all()
    assert run.samples == samples


def test_a_cell_without_samples_takes_the_mean_of_its_stratum():
    # 4 players, slices 1 and 2; player 3 never joins an S of size 1.
    pairs = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]]
    rows = np.array([row for s in pairs for row in (s, [1 - x for x in s])], dtype=bool)
    worth = np.zeros(len(rows))
    worth[[0, 2, 4]] = 1.0, 2.0, 3.0
    run = ESTIMATORS["ssv"].run(rows, worth)
    assert run.values[3] == pytest.approx(2.0 / 2)
    assert np.isinf(run.standard_errors[3])
    assert np.isfinite(run.standard_errors[:3]).all()


@pytest.mark.parametrize("name", ["ssv", "shapley"])
@pytest.mark.parametrize("players", [1, 2, 3])
def test_tiny_games(name, players):
    weights = np.arange(1.0, players + 1)
    run = estimate(lambda c: c @ weights, players, name, samples=400)
    truth = {"ssv": exact_sliced, "shapley": exact_shapley}[name]
    slices = (paper_slices(players),) if name == "ssv" else ()
    gap = np.abs(run.values - truth(lambda c: c @ weights, players, *slices))
    assert (gap <= 5 * run.standard_errors + 1e-12).all()


def test_mean_of_a_slice_over_the_players_is_the_mean_contribution():
    rows = Plan(8, (2,), seed=0).coalitions(0, 2000)
    worth = rows.sum(axis=1) ** 2.0
    run = estimate(lambda c: c.sum(axis=1) ** 2.0, 8, "ssv", samples=4000)
    assert run.values.mean() == pytest.approx(np.mean([s**2 - (8 - s) ** 2 for s in (1, 2, 3, 4)]))
    assert (worth[0::2] - worth[1::2]).mean() == 4 - 36  # a useful head has a negative sliced value here


def test_same_seed_same_result_and_results_depend_on_the_seed():
    one, two, other = (estimate(saturating, PLAYERS, samples=50, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.values, two.values)
    assert (one.values != other.values).any()


def test_requests_that_cannot_be_met():
    with pytest.raises(RequestError, match="did you mean shapley"):
        get_estimator("shaply")
    with pytest.raises(RequestError, match="at least one pair"):
        estimate(saturating, PLAYERS, samples=0)
    with pytest.raises(RequestError, match="at least one player"):
        estimate(saturating, 0)
    rows = Plan(PLAYERS, (2,)).coalitions(0, 6)
    with pytest.raises(RequestError, match="together with its complement"):
        ESTIMATORS["ssv"].run(rows[0::2], np.zeros(3))
    with pytest.raises(RequestError, match="do not fit"):
        ESTIMATORS["ssv"].run(rows, np.zeros(5))
    with pytest.raises(RequestError, match="finite"):
        ESTIMATORS["ssv"].run(rows, np.full(6, np.nan))


def test_every_estimator_has_one_line_of_description():
    for name, estimator in ESTIMATORS.items():
        assert estimator.name == name
        assert estimator.description
        assert "\n" not in estimator.description
