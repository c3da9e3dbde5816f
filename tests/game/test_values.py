"""What single estimators promise: exact on enumerated rows, against independent references, and honest refusals."""

from time import process_time

import numpy as np
import pytest
from scipy.stats import t
from sklearn.linear_model import LinearRegression

from cokv_bench.errors import RequestError
from cokv_bench.game import (
    ESTIMATORS,
    SizesPlan,
    TooFewRowsError,
    estimate,
    exact_banzhaf,
    exact_cc,
    exact_shapley,
    exact_sliced,
    get_sampling,
)
from cokv_bench.game.coalitions import all_coalitions


def random_game(players, seed=0):
    worth = np.random.default_rng(seed).normal(size=2**players)
    return lambda coalitions: worth[coalitions @ (1 << np.arange(players))]


def rows_of(sampling, players, rows, seed=0):
    plan = get_sampling(sampling).plan(players, seed)
    return plan.coalitions(0, rows, np.zeros(plan.pilot_rows)), plan.units(0, rows)


# cc


@pytest.mark.parametrize("players", range(2, 10))
def test_cc_of_all_sizes_is_the_shapley_value_less_its_mean(players):
    game = random_game(players, players)
    shapley = exact_shapley(game, players)
    expected = shapley - shapley.mean()
    np.testing.assert_allclose(exact_cc(game, players, range(1, players)), expected, atol=1e-12)
    np.testing.assert_allclose(exact_cc(game, players, range(1, players // 2 + 1)), expected, atol=1e-12)
    rows = all_coalitions(players)
    rows = rows[rows.sum(axis=1) > 0]
    rows = np.concatenate([rows, ~rows])
    run = ESTIMATORS["cc"].run(rows, game(rows))
    np.testing.assert_allclose(run.values, expected, atol=1e-12)


@pytest.mark.parametrize("slices", [(2,), (5,), (1, 4, 5), (8,), (2, 8, 10)])
def test_cc_is_half_the_mean_difference_of_members_and_others(slices):
    players = 10
    game = random_game(players)
    folds = {min(size, players - size) for size in slices} - {0}
    expected = np.zeros(players)
    for size in folds:
        rows = all_coalitions(players)
        rows = rows[rows.sum(axis=1) == size]
        c = game(rows) - game(~rows)
        for i in range(players):
            expected[i] += (c[rows[:, i]].mean() - c[~rows[:, i]].mean()) / (2 * len(folds))
    found = exact_cc(game, players, slices)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.sum() == pytest.approx(0, abs=1e-12)
    every = all_coalitions(players)
    every = every[np.isin(every.sum(axis=1), slices)]
    rows = np.stack([every, ~every], axis=1).reshape(-1, players)
    np.testing.assert_allclose(ESTIMATORS["cc"].run(rows, game(rows)).values, expected, atol=1e-12)


def test_the_two_strata_of_a_slice_deviate_as_derived():
    """Member deviation d, non-member d s/(n - s), their sum d n/(n - s)."""
    players, size = 9, 3
    game = random_game(players)
    deviation = [
        values - values.mean() for values in (exact_sliced(game, players, [s]) for s in (size, players - size))
    ]
    np.testing.assert_allclose(deviation[1], deviation[0] * size / (players - size), atol=1e-12)
    total = deviation[0] * players / (players - size)
    np.testing.assert_allclose(exact_cc(game, players, [size]), total / 2, atol=1e-12)


def test_cc_is_less_noisy_than_ssv_on_the_same_rows():
    rows, _ = rows_of("slices", 40, 2000)
    worth = np.sqrt(rows @ np.arange(40.0))
    members, both = (np.median(ESTIMATORS[name].run(rows, worth).standard_errors) for name in ("ssv", "cc"))
    assert both < 0.8 * members


def test_cc_without_an_inner_size():
    rows, _ = rows_of("strata", 5, 2)
    with pytest.raises(TooFewRowsError, match="sample other sizes"):
        ESTIMATORS["cc"].run(rows, rows.sum(axis=1))
    with pytest.raises(RequestError, match="at least one of them smaller"):
        exact_cc(lambda c: c.sum(axis=1), 5, [5])
    np.testing.assert_array_equal(exact_cc(lambda c: c.sum(axis=1), 1, [1]), 0)
    np.testing.assert_array_equal(estimate(lambda c: c.sum(axis=1), 1, "cc").values, 0)


# permutation


def test_permutation_by_hand():
    rows, units = rows_of("permutation", 4, 8 * 5, seed=3)
    game = random_game(4)
    worth = game(rows)
    means = []
    for unit in range(5):
        marginals = {player: [] for player in range(4)}
        mine = rows[units == unit]
        order = [int(np.flatnonzero(mine[2])[0])]
        for step in (4, 6):
            order.append(int(np.flatnonzero(mine[step] & ~mine[step - 2])[0]))
        order.append(int(np.flatnonzero(~mine[6])[0]))
        for walk in (order, order[::-1]):
            inside = np.zeros(4, dtype=bool)
            for player in walk:
                before = game(inside[None])[0]
                inside[player] = True
                marginals[player].append(game(inside[None])[0] - before)
        means.append([np.mean(marginals[player]) for player in range(4)])
    run = ESTIMATORS["permutation"].run(rows, worth, units)
    np.testing.assert_allclose(run.values, np.mean(means, axis=0), atol=1e-12)
    interval = t.ppf(0.975, 4) * np.std(means, axis=0, ddof=1) / np.sqrt(5)
    np.testing.assert_allclose(1.96 * run.standard_errors, interval, rtol=1e-4)
    assert run.samples == 20
    assert run.values.sum() == pytest.approx(game(np.ones((1, 4), bool))[0] - game(np.zeros((1, 4), bool))[0])


@pytest.mark.parametrize("players", [1, 2, 3, 6])
def test_permutation_leaves_out_what_is_not_complete(players):
    rows, units = rows_of("permutation", players, 2 * players * 3 + 2 * (players - 1))
    game = random_game(players)
    whole = slice(2 * players * 3)
    all_of_it = ESTIMATORS["permutation"].run(rows, game(rows), units)
    complete = ESTIMATORS["permutation"].run(rows[whole], game(rows[whole]), units[whole])
    np.testing.assert_array_equal(all_of_it.values, complete.values)
    np.testing.assert_array_equal(all_of_it.standard_errors, complete.standard_errors)
    holes = np.ones(len(rows), dtype=bool)
    holes[2 * players + 1] = False  # the second unit lacks its empty coalition
    kept = ESTIMATORS["permutation"].run(rows[holes], game(rows[holes]), units[holes])
    assert kept.samples == 2 * players
    order = np.random.default_rng(0).permutation(len(rows))
    mixed = ESTIMATORS["permutation"].run(rows[order], game(rows[order]), units[order])
    np.testing.assert_allclose(mixed.values, complete.values, atol=1e-12)


def test_permutation_refuses_what_are_no_walks():
    run = ESTIMATORS["permutation"].run
    for sampling in ("slices", "strata", "neyman", "uniform", "antithetic"):
        rows, units = rows_of(sampling, 8, 100)
        with pytest.raises(RequestError, match="sample at least 8 pairs with permutation") as error:
            run(rows, rows.sum(axis=1), units)
        assert not isinstance(error.value, TooFewRowsError)
    rows, units = rows_of("permutation", 8, 40)
    with pytest.raises(RequestError, match="give the units"):
        run(rows, rows.sum(axis=1))
    with pytest.raises(TooFewRowsError):
        run(rows[:12], rows[:12].sum(axis=1), units[:12])
    assert np.isinf(run(rows[:16], rows[:16].sum(axis=1), units[:16]).standard_errors).all()


# banzhaf


@pytest.mark.parametrize("players", [1, 2, 5, 9])
def test_banzhaf_is_the_mean_marginal_contribution_over_all_coalitions(players):
    game = random_game(players, players)
    rows = all_coalitions(players)
    expected = []
    for player in range(players):
        joined = rows.copy()
        joined[:, player] = True
        without = ~rows[:, player]
        expected.append(np.mean(game(joined[without]) - game(rows[without])))
    np.testing.assert_allclose(exact_banzhaf(game, players), expected, atol=1e-12)
    np.testing.assert_allclose(ESTIMATORS["banzhaf"].run(rows, game(rows)).values, expected, atol=1e-12)


def test_banzhaf_of_pairs_is_a_mean_of_contributions():
    rows, units = rows_of("uniform", 6, 80)
    game = random_game(6)
    c = (game(rows[0::2]) - game(rows[1::2]))[:, None] * np.where(rows[0::2], 1, -1)
    run = ESTIMATORS["banzhaf"].run(rows, game(rows), units)
    np.testing.assert_allclose(run.values, c.mean(axis=0), atol=1e-12)
    interval = t.ppf(0.975, 39) * c.std(axis=0, ddof=1) / np.sqrt(40)
    np.testing.assert_allclose(1.96 * run.standard_errors, interval, rtol=1e-4)


def test_banzhaf_without_pairs_and_with_a_player_who_is_always_there():
    rows = np.random.default_rng(0).random((4000, 5)) < 0.5
    game = random_game(5)
    run = ESTIMATORS["banzhaf"].run(rows, game(rows))
    assert (np.abs(run.values - exact_banzhaf(game, 5)) < 4 * run.standard_errors).all()
    few = np.array([[1, 0, 1, 0], [1, 1, 0, 0]], dtype=bool)
    run = ESTIMATORS["banzhaf"].run(few, np.array([1.0, 2.0]))
    np.testing.assert_array_equal(np.isnan(run.values), [True, False, False, True])
    np.testing.assert_array_equal(np.isinf(run.standard_errors), [True, False, False, True])


@pytest.mark.parametrize("sampling", ["slices", "strata", "neyman", "antithetic", "permutation"])
def test_banzhaf_refuses_other_sizes(sampling):
    rows, units = rows_of(sampling, 90, 360)
    with pytest.raises(RequestError, match="sample with uniform"):
        ESTIMATORS["banzhaf"].run(rows, rows.sum(axis=1), units)


def test_banzhaf_refuses_sizes_that_never_vary():
    rows = SizesPlan(90, (45,)).coalitions(0, 60)
    with pytest.raises(RequestError, match="sample with uniform"):
        ESTIMATORS["banzhaf"].run(rows, rows.sum(axis=1))


def test_banzhaf_takes_every_uniform_ledger():
    for players in (1, 2, 3, 7, 60):
        for seed in range(30):
            for rows in (2, 6, 40, 400):
                coalitions, units = rows_of("uniform", players, rows, seed)
                ESTIMATORS["banzhaf"].run(coalitions, coalitions.sum(axis=1), units)


# kernelshap


def kernel_reference(rows, worth):
    """KernelSHAP as published (arXiv 1705.07874): scikit-learn fits all values but the last, efficiency gives that."""
    players = rows.shape[1]
    sizes = rows.sum(axis=1)
    empty, full = worth[sizes == 0].mean(), worth[sizes == players].mean()
    inner = (sizes > 0) & (sizes < players)
    rows, worth, sizes = rows[inner], worth[inner], sizes[inner]
    # Each size has the weight of all its coalitions together, shared among its rows.
    weights = (players - 1) / (sizes * (players - sizes)) / np.bincount(sizes)[sizes]
    last = rows[:, -1].astype(float)
    fit = LinearRegression(fit_intercept=False)
    fit.fit(rows[:, :-1] - last[:, None], worth - empty - last * (full - empty), sample_weight=weights)
    return np.append(fit.coef_, full - empty - fit.coef_.sum())


@pytest.mark.parametrize("players", [2, 3, 5, 8])
def test_kernelshap_of_all_coalitions_is_the_shapley_value(players):
    game, rows = random_game(players, players), all_coalitions(players)
    run = ESTIMATORS["kernelshap"].run(rows, game(rows))
    np.testing.assert_allclose(run.values, exact_shapley(game, players), atol=1e-10)
    np.testing.assert_allclose(kernel_reference(rows, game(rows)), exact_shapley(game, players), atol=1e-10)


@pytest.mark.parametrize("sampling", ["strata", "permutation"])
@pytest.mark.parametrize("players", [4, 9, 12])
def test_kernelshap_is_the_regression_of_the_reference(sampling, players):
    rows, units = rows_of(sampling, players, 30 * players)
    worth = random_game(players)(rows)
    run = ESTIMATORS["kernelshap"].run(rows, worth, units)
    np.testing.assert_allclose(run.values, kernel_reference(rows, worth), atol=1e-9)
    assert run.values.sum() == pytest.approx((worth[0] - worth[1]), abs=1e-10)


def test_kernelshap_without_the_ends_is_centred():
    weights = np.arange(20.0)
    rows, units = rows_of("slices", 20, 400)
    run = ESTIMATORS["kernelshap"].run(rows, rows @ weights + rows.sum(axis=1) * 3 + 7, units)
    np.testing.assert_allclose(run.values, weights - weights.mean(), atol=1e-9)
    rows = SizesPlan(20, (10,)).coalitions(0, 400)
    run = ESTIMATORS["kernelshap"].run(rows, rows @ weights)
    np.testing.assert_allclose(run.values, weights - weights.mean(), atol=1e-9)
    np.testing.assert_allclose(run.standard_errors, 0, atol=1e-9)


def test_kernelshap_is_as_stable_as_its_rows():
    """The sum of the players is a direction without data, and rounding must never pass for data."""
    game = random_game(7)
    values = [estimate(game, 7, "kernelshap", 1200, seed).values for seed in range(80)]
    assert np.std(values, axis=0).max() < 0.2


def test_kernelshap_with_too_few_rows_claims_nothing():
    rows, units = rows_of("strata", 30, 2)
    with pytest.raises(TooFewRowsError, match="sample other sizes"):
        ESTIMATORS["kernelshap"].run(rows, np.zeros(2), units)
    for pairs in (2, 10, 30):
        rows, units = rows_of("strata", 30, 2 * pairs)
        run = ESTIMATORS["kernelshap"].run(rows, np.sqrt(rows @ np.arange(30.0)), units)
        assert np.isinf(run.standard_errors).all()
        assert np.isfinite(run.values).all()
    rows = np.repeat(SizesPlan(30, (1,)).coalitions(0, 2), 60, axis=0)  # many rows that say one thing
    assert np.isinf(ESTIMATORS["kernelshap"].run(rows, rows.sum(axis=1) * 1.0).standard_errors).all()
    one = estimate(lambda c: 3.0 * c.sum(axis=1), 1, "kernelshap", 2)
    assert (one.values[0], one.standard_errors[0]) == (3.0, 0.0)


# all


def test_estimators_of_the_shapley_value_agree_on_many_players():
    players = 60
    weights = np.random.default_rng(1).exponential(size=players)

    def utility(coalitions):
        return 1 - np.exp(-(coalitions @ weights) / 30)

    runs = {name: estimate(utility, players, name, 6000) for name in ("shapley", "permutation", "kernelshap")}
    for name in ("shapley", "kernelshap"):
        gap = runs[name].values - runs["permutation"].values
        error = np.hypot(runs[name].standard_errors, runs["permutation"].standard_errors)
        known = np.isfinite(error)
        assert known.sum() > 0.6 * players or name == "shapley"
        assert (np.abs(gap) < 4.5 * error)[known].all()


@pytest.mark.parametrize("name", ["cc", "shapley", "kernelshap", "permutation", "banzhaf"])
def test_ten_thousand_coalitions_of_512_players_take_seconds(name):
    plan = get_sampling(ESTIMATORS[name].sampling).plan(512, 0)
    rows, units = plan.coalitions(0, 10000), plan.units(0, 10000)
    worth = np.sqrt(rows @ np.arange(512.0))
    start = process_time()
    assert np.isfinite(ESTIMATORS[name].run(rows, worth, units).values).all()
    assert process_time() - start < 10
