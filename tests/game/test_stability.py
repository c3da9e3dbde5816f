"""Halves of a ledger and what they say of the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from cokv_bench.errors import RequestError
from cokv_bench.game import ESTIMATORS, SAMPLINGS, get_estimator, get_sampling, halves, stability

PLAYERS = 24
WEIGHTS = np.random.default_rng(0).exponential(size=PLAYERS)


def utility(coalitions):
    return np.sqrt(coalitions @ WEIGHTS)


def measured(sampling, rows, players=PLAYERS, seed=0, noise=0.0):
    plan = get_sampling(sampling).plan(players, seed)
    pilot = utility(plan.coalitions(0, plan.pilot_rows)) if players == PLAYERS else np.ones(plan.pilot_rows)
    coalitions = plan.coalitions(0, rows, pilot)
    worth = utility(coalitions) + noise * np.random.default_rng(seed).normal(size=rows)
    return coalitions, worth, plan.units(0, rows), plan.row_sizes(0, rows, pilot)


@settings(max_examples=80)
@given(st.sampled_from(sorted(SAMPLINGS)), st.integers(1, 30), st.integers(0, 400))
def test_halves_are_whole_units_and_share_every_size(name, players, rows):
    plan = get_sampling(name).plan(players, 0)
    pilot = np.arange(plan.pilot_rows) % 7.0
    units, sizes = plan.units(0, rows), plan.row_sizes(0, rows, pilot)
    first = halves(units, sizes)
    starts = np.unique(units, return_index=True)[1]
    assert (first == first[starts][units]).all()
    for size in np.unique(sizes[starts]):
        mine = first[starts][sizes[starts] == size]
        assert abs(2 * mine.sum() - mine.size) <= 1
        assert (mine[1:] != mine[:-1]).all()
    # With an odd number of units of every size, they do not all favour the same half.
    assert abs(2 * first[starts].sum() - starts.size) <= 1 + np.unique(sizes).size / 2
    grown = halves(np.append(units, units.max(initial=0) + 1), np.append(sizes, sizes[-1] if rows else 1))
    np.testing.assert_array_equal(grown[:rows], first)


def test_halves_by_hand():
    units = [7, 7, 3, 3, 9, 9, 1, 1, 4]
    sizes = [2, 2, 5, 5, 2, 2, 5, 5, 2]
    assert halves(units, sizes).tolist() == [True, True, False, False, False, False, True, True, True]
    assert halves([], []).tolist() == []
    with pytest.raises(RequestError, match="do not fit"):
        halves([1, 2], [1])


@pytest.mark.parametrize("name", ["ssv", "cc", "kernelshap", "ridge"])
def test_stability_is_that_of_the_halves(name):
    coalitions, worth, units, sizes = measured(ESTIMATORS[name].sampling, 4000)
    whole, found = stability(get_estimator(name), coalitions, worth, units, sizes)
    first = halves(units, sizes)
    run = ESTIMATORS[name].run
    one, other = (run(coalitions[r], worth[r], units[r]).values for r in (first, ~first))
    np.testing.assert_array_equal(whole.values, run(coalitions, worth, units).values)
    assert found.rank_correlation == pytest.approx(spearmanr(one, other).statistic)
    assert found.mean_absolute_difference == pytest.approx(np.abs(one - other).mean())
    assert found.standard_error == np.median(whole.standard_errors)
    r = found.rank_correlation
    assert found.reliability == pytest.approx(2 * r / (1 + r))
    assert r < found.reliability <= 1


def test_reliability_foretells_the_rank_correlation_of_whole_ledgers():
    foretold, runs = [], []
    for seed in range(40):
        whole, found = stability(get_estimator("cc"), *measured("slices", 600, seed=seed, noise=0.3))
        foretold.append(found.reliability)
        runs.append(whole.values)
    between = [spearmanr(a, b).statistic for a, b in zip(runs[0::2], runs[1::2], strict=True)]
    assert 0.3 < np.mean(between) < 0.95
    assert np.mean(foretold) == pytest.approx(np.mean(between), abs=0.06)


@pytest.mark.parametrize(
    ("name", "sampling"),
    [(name, sampling) for name, chosen in ESTIMATORS.items() for sampling in (chosen.sampling, *chosen.also)],
)
def test_few_rows_are_no_error_and_many_are_stable(name, sampling):
    for rows in (2, 4, 6, 10, 60, 110):
        _, found = stability(get_estimator(name), *measured(sampling, rows))
        assert np.isnan(found.rank_correlation) or -1 <= found.rank_correlation <= 1
        assert np.isnan(found.reliability) == np.isnan(found.rank_correlation)
    whole, found = stability(get_estimator(name), *measured(sampling, 12000))
    assert np.isfinite(whole.values).all()
    assert found.rank_correlation > 0.5
    assert found.mean_absolute_difference < 0.2


def test_an_empty_half_or_ledger_is_unknown():
    for rows in (0, 2):
        whole, found = stability(get_estimator("cc"), *measured("slices", rows))
        assert np.isnan(found.rank_correlation)
        assert np.isnan(found.reliability)
        assert np.isnan(found.mean_absolute_difference)
        assert np.isinf(found.standard_error)
        assert np.isinf(whole.standard_errors).all()


def test_equal_values_have_no_rank():
    coalitions, worth, units, sizes = measured("slices", 80)
    _, found = stability(get_estimator("ridge"), coalitions, np.ones_like(worth), units, sizes)
    assert np.isnan(found.rank_correlation)
    assert found.mean_absolute_difference == 0


def test_the_full_coalition_that_was_measured_once_serves_both_halves():
    """A neyman ledger of many players has the stratum N once; without it a half has no Shapley value."""
    players = 70
    plan = get_sampling("neyman").plan(players, 0)
    weights = np.arange(players) / 100
    pilot = np.sqrt(plan.coalitions(0, plan.pilot_rows) @ weights)
    coalitions = plan.coalitions(0, 2000, pilot)
    assert coalitions.all(axis=1).sum() == 1
    _, found = stability(
        get_estimator("shapley"),
        coalitions,
        np.sqrt(coalitions @ weights),
        plan.units(0, 2000),
        plan.row_sizes(0, 2000, pilot),
    )
    assert found.rank_correlation > 0.5


def test_a_half_that_lacks_a_rare_size_is_unknown_rather_than_refused():
    """The allocation gives the size players/2 next to nothing here, and the pilot has one pair of it."""
    players = 90
    plan = get_sampling("neyman").plan(players, 0)
    pilot = np.minimum(plan.coalitions(0, plan.pilot_rows) @ np.arange(players), 900)
    coalitions = plan.coalitions(0, 900, pilot)
    arguments = coalitions, np.minimum(coalitions @ np.arange(players), 900), plan.units(0, 900)
    whole, found = stability(get_estimator("shapley"), *arguments, plan.row_sizes(0, 900, pilot))
    assert np.isfinite(whole.values).all()
    assert np.isnan(found.rank_correlation)
    assert np.isnan(found.mean_absolute_difference)


def test_rows_of_the_wrong_sampling_are_an_error():
    with pytest.raises(RequestError, match="sample with uniform"):
        stability(get_estimator("banzhaf"), *measured("slices", 400))
