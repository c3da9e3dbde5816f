"""The ridge estimator on games whose answer is known."""

import hashlib

import numpy as np
import pytest

from cokv_bench.errors import RequestError
from cokv_bench.game import SAMPLINGS, estimate, exact_shapley, get_estimator, get_sampling
from cokv_bench.game.estimators.leave_out import LevelledFit

PLAYERS = 12
WORTH = np.array([0.0, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.1, 1.5, 2.0, 2.5, 4.0])


def noise(coalition: np.ndarray, seed: int) -> float:
    """The same number whenever the same coalition is measured."""
    digest = hashlib.sha256(np.packbits(coalition).tobytes() + bytes([seed])).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big")).normal()


def test_an_additive_game_is_recovered_up_to_a_constant() -> None:
    values = estimate(lambda rows: rows @ WORTH, PLAYERS, estimator="ridge", samples=100).values
    np.testing.assert_allclose(values, WORTH - WORTH.mean(), atol=2e-3)


def test_the_ranking_of_a_saturating_game_is_that_of_its_shapley_values() -> None:
    def utility(rows: np.ndarray) -> np.ndarray:
        return 1 - np.exp(-(rows @ WORTH) / 4)

    values = estimate(utility, PLAYERS, estimator="ridge", samples=600).values
    assert (np.argsort(values) == np.argsort(exact_shapley(utility, PLAYERS))).all()


def test_standard_errors_are_the_spread_over_seeds() -> None:
    runs = []
    for seed in range(60):
        runs.append(
            estimate(
                lambda rows, seed=seed: rows @ WORTH + np.array([noise(row, seed) for row in rows]),
                PLAYERS,
                estimator="ridge",
                samples=60,
                seed=seed,
            )
        )
    spread = np.std([run.values for run in runs], axis=0).mean()
    stated = np.mean([run.standard_errors for run in runs])
    assert 0.8 < stated / spread < 1.25
    inside = np.mean([np.abs(run.values - WORTH + WORTH.mean()) < 2 * run.standard_errors for run in runs])
    assert 0.88 < inside < 0.99


def test_complements_are_not_needed() -> None:
    rows = np.random.default_rng(0).random((300, PLAYERS)) < 0.5
    values = get_estimator("ridge").run(rows, rows @ WORTH).values
    np.testing.assert_allclose(values, WORTH - WORTH.mean(), atol=2e-3)


def test_equal_utilities_say_that_all_heads_are_equal() -> None:
    values = estimate(lambda rows: np.ones(len(rows)), PLAYERS, estimator="ridge", samples=20).values
    np.testing.assert_array_equal(values, np.zeros(PLAYERS))


def test_bad_input_and_too_few_pairs() -> None:
    run = get_estimator("ridge").run
    with pytest.raises(RequestError, match="No coalition was measured"):
        run(np.zeros((0, 3), dtype=bool), np.zeros(0))
    with pytest.raises(RequestError, match="do not fit"):
        run(np.zeros((2, 3), dtype=bool), np.zeros(3))
    with pytest.raises(RequestError, match="finite"):
        run(np.eye(3, dtype=bool), np.array([1.0, np.nan, 0.0]))
    pair = np.array([[True, False, False], [False, True, True]])
    assert np.isinf(run(pair, np.array([1.0, 2.0])).standard_errors).all()


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_what_complements_share_changes_nothing(sampling: str) -> None:
    """An even part cancels in the coefficients, so it must not count as noise where the penalty is chosen."""
    players, rows = 20, 160
    plan = get_sampling(sampling).plan(players, 3)
    coalitions = plan.coalitions(0, rows, np.ones(plan.pilot_rows))
    worth = coalitions @ np.linspace(-1, 1, players) + np.random.default_rng(0).normal(size=rows)
    # A function of the coalition and its complement together; an even power makes it blind to which of them it is.
    even = 5 * np.cos(np.square((2.0 * coalitions - 1) @ np.random.default_rng(1).normal(size=players)))
    run, units = get_estimator("ridge").run, plan.units(0, rows)
    plain, disturbed = run(coalitions, worth, units), run(coalitions, worth + even, units)
    assert np.ptp(plain.values) > 0.2
    np.testing.assert_allclose(disturbed.values, plain.values, atol=1e-9)


@pytest.mark.parametrize(
    ("sampling", "rows"), [("slices", 57), ("antithetic", 64), ("strata", 96), ("permutation", 96)]
)
@pytest.mark.parametrize("penalty", [0.01, 3.0])
def test_leaving_out_a_unit_is_a_fit_without_it(sampling: str, rows: int, penalty: float) -> None:
    plan = get_sampling(sampling).plan(PLAYERS, 0)
    coalitions = plan.coalitions(0, rows)
    units = np.unique(plan.units(0, rows), return_inverse=True)[1]
    target = np.random.default_rng(0).normal(size=rows)
    groups = np.unique(coalitions.sum(axis=1), return_inverse=True)[1]
    levels = np.eye(groups.max() + 1)[groups]
    errors = LevelledFit.of(coalitions.astype(float), target, levels, units).left_out(penalty)
    design = np.hstack([levels, coalitions])
    shrink = np.diag([1e-10] * levels.shape[1] + [penalty] * PLAYERS)
    for unit in np.unique(units):
        out = units == unit
        assert set(groups[out]) <= set(groups[~out])
        kept = design[~out]
        fit = np.linalg.solve(kept.T @ kept + shrink, kept.T @ target[~out])
        np.testing.assert_allclose(errors[out], target[out] - design[out] @ fit, atol=1e-6)


def test_one_unit_says_nothing_about_the_heads() -> None:
    plan = get_sampling("permutation").plan(PLAYERS, 0)
    coalitions = plan.coalitions(0, 2 * PLAYERS)
    found = get_estimator("ridge").run(coalitions, coalitions @ WORTH, plan.units(0, 2 * PLAYERS))
    assert np.abs(found.values).max() < 0.1
    assert np.isinf(found.standard_errors).all()


@pytest.mark.parametrize("name", ["ridge", "kernelshap"])
def test_the_same_pair_again_and_again_does_not_tell_heads_apart(name: str) -> None:
    coalitions = np.tile(np.array([[True, False, False], [False, True, True]]), (20, 1))
    worth = np.random.default_rng(0).normal(size=40)
    found = get_estimator(name).run(coalitions, worth, np.arange(40) // 2)
    assert np.abs(found.values).max() < 1
    assert np.isinf(found.standard_errors).all()
