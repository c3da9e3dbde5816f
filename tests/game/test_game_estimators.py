"""Estimators against enumeration: right on average, honest about their error, and reproducible from stored rows."""

import numpy as np
import pytest
from scipy.stats import t

from cokv_bench.errors import RequestError
from cokv_bench.game import (
    ESTIMATORS,
    SAMPLINGS,
    SizesPlan,
    TooFewRowsError,
    all_strata,
    estimate,
    exact_shapley,
    exact_sliced,
    get_estimator,
    get_sampling,
    paper_slices,
)
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
def test_error_falls_with_the_square_root_of_the_samples(name):
    truth = exact(name)

    def error(samples):
        runs = [estimate(saturating, PLAYERS, name, samples, seed).values - truth for seed in range(60)]
        return np.sqrt(np.mean(np.square(runs)))

    ratio = error(300) / error(4800)
    assert 3.2 < ratio < 4.8  # 16 times the samples: 4, were there no chance in it


@pytest.mark.parametrize("name", ["ssv", "cc", "shapley"])
def test_rows_in_another_place_give_the_same_values(name):
    """Complements are found by lookup, so a ledger may list all S first and all complements after."""
    players = 16
    rows = get_sampling(ESTIMATORS[name].sampling).plan(players, 5).coalitions(0, 800)
    # Of half the players lookup cannot tell S from the complement of another S.
    kept = rows[0::2].sum(axis=1) != players // 2
    rows = np.stack([rows[0::2][kept], rows[1::2][kept]], axis=1)
    adjacent, apart = rows.reshape(-1, players), np.concatenate([rows[:, 0], rows[:, 1]])
    worth = np.arange(players) ** 2.0 / 100
    added = np.full((2, players), False)
    added[0, : players // 2] = True
    added[1] = ~added[0]
    one, two = (ESTIMATORS[name].run(r, np.sqrt(r @ worth)) for r in (np.vstack([r, added]) for r in (adjacent, apart)))
    assert np.isfinite(one.values).all()
    np.testing.assert_allclose(one.values, two.values, atol=1e-12)
    np.testing.assert_allclose(one.standard_errors, two.standard_errors, atol=1e-12)


def test_estimators_run_on_the_rows_of_the_other():
    rows = SizesPlan(PLAYERS, all_strata(PLAYERS), seed=2).coalitions(0, 8000)
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


def test_strata_that_were_not_seen_yet_leave_the_values_unknown():
    rows = SizesPlan(5, all_strata(5), seed=0).coalitions(0, 4)  # strata 2 and 3 are missing
    run = ESTIMATORS["shapley"].run(rows, rows.sum(axis=1) * 1.0)
    assert np.isnan(run.values).all()
    assert np.isinf(run.standard_errors).all()


@pytest.mark.parametrize(("name", "sampling"), [("shapley", "slices"), ("ssv", "uniform"), ("shapley", "uniform")])
def test_strata_that_a_sampling_never_sees_are_refused(name, sampling):
    rows = get_sampling(sampling).plan(90, 0).coalitions(0, 600)
    wanted = ESTIMATORS[name].sampling
    with pytest.raises(RequestError, match=rf"coalition sizes .*'{name}' needs; sample with {wanted}") as error:
        ESTIMATORS[name].run(rows, rows.sum(axis=1) * 1.0)
    assert not isinstance(error.value, TooFewRowsError)


def test_standard_error_by_the_textbook():
    assert paper_slices(5) == (1, 2, 3)
    rows = SizesPlan(5, (1, 2, 3), seed=0).coalitions(0, 120)
    # Noise: a repeated coalition has another utility each time, so no cell has a variance of zero.
    worth = np.random.default_rng(0).normal(size=len(rows))
    run = ESTIMATORS["ssv"].run(rows, worth)
    pairs = [(rows[k], worth[k] - worth[k + 1]) for k in range(0, len(rows), 2)]
    cells = [[c for s, c in pairs if s[4] and s.sum() == size] for size in (1, 2, 3)]
    assert min(map(len, cells)) >= 2
    assert run.values[4] == pytest.approx(np.mean([np.mean(cell) for cell in cells]))
    variances = [np.var(cell, ddof=1) / len(cell) for cell in cells]
    degrees = sum(variances) ** 2 / sum(v**2 / (len(cell) - 1) for v, cell in zip(variances, cells, strict=True))
    interval = t.ppf(0.975, degrees) * np.sqrt(sum(variances)) / 3  # Welch and Satterthwaite
    assert 1.96 * run.standard_errors[4] == pytest.approx(interval, rel=1e-4)


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
    rows = SizesPlan(8, (2,), seed=0).coalitions(0, 2000)
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
    rows = SizesPlan(PLAYERS, (2,)).coalitions(0, 6)
    with pytest.raises(RequestError, match="together with its complement"):
        ESTIMATORS["ssv"].run(rows[0::2], np.zeros(3))
    with pytest.raises(RequestError, match="do not fit"):
        ESTIMATORS["ssv"].run(rows, np.zeros(5))
    with pytest.raises(RequestError, match="finite"):
        ESTIMATORS["ssv"].run(rows, np.full(6, np.nan))

    with pytest.raises(RequestError, match=r"Units \[3\] do not fit 6"):
        ESTIMATORS["ssv"].run(rows, np.zeros(6), np.zeros(3, dtype=int))
    with pytest.raises(TooFewRowsError, match="No coalition was measured"):
        ESTIMATORS["ssv"].run(rows[:0], np.zeros(0))
    with pytest.raises(RequestError, match="did you mean neyman"):
        estimate(saturating, PLAYERS, "shapley", sampling="neymann")


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_samplings_that_an_estimator_cannot_use_are_refused_before_anything_is_measured(name, sampling):
    chosen = ESTIMATORS[name]
    if sampling in (chosen.sampling, *chosen.also):
        run = estimate(saturating, PLAYERS, name, samples=64, sampling=sampling)
        assert run.estimator == name
        assert run.values.shape == run.standard_errors.shape == (PLAYERS,)
        assert 1 <= run.samples <= 64
        return
    with pytest.raises(RequestError, match=f"cannot use the sampling '{sampling}'; sample with {chosen.sampling}"):
        estimate(lambda coalitions: pytest.fail("measured"), PLAYERS, name, sampling=sampling)


def test_every_estimator_has_one_line_of_description():
    for name, estimator in ESTIMATORS.items():
        assert estimator.name == name
        assert estimator.description
        assert "\n" not in estimator.description
        assert {estimator.sampling, *estimator.also} <= set(SAMPLINGS)


@pytest.mark.parametrize("name", ["ssv", "cc", "shapley", "kernelshap", "banzhaf", "ridge"])
def test_units_are_pairs_unless_given(name):
    plan = get_sampling(ESTIMATORS[name].sampling).plan(40, 1)
    rows = plan.coalitions(0, 600)
    worth = np.sqrt(rows @ np.arange(40.0))
    given, found = (ESTIMATORS[name].run(rows, worth, units) for units in (plan.units(0, 600), None))
    np.testing.assert_array_equal(given.values, found.values)
    np.testing.assert_allclose(given.standard_errors, found.standard_errors, rtol=1e-12)


@pytest.mark.parametrize("name", ["ssv", "cc", "shapley", "kernelshap", "banzhaf", "ridge"])
def test_a_ledger_that_repeats_itself_within_its_units_is_no_more_certain(name):
    """Copies of rows in the unit of their originals are no new evidence; as units of their own they would be."""
    plan = get_sampling(ESTIMATORS[name].sampling).plan(9, 1)
    rows, units = plan.coalitions(0, 1800), plan.units(0, 1800)
    worth = saturating(rows[:, :PLAYERS]) + 0.1 * rows[:, 7]
    once = ESTIMATORS[name].run(rows, worth, units)
    twice = ESTIMATORS[name].run(np.concatenate([rows] * 2), np.concatenate([worth] * 2), np.concatenate([units] * 2))
    penalty = 0.05 if name == "ridge" else 0.01  # ridge chooses another
    np.testing.assert_allclose(twice.standard_errors, once.standard_errors, rtol=penalty, atol=1e-12)
