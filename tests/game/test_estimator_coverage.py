"""Every estimator with every sampling it can use: right on average, and its intervals hold what they promise.

Those of ridge, which is biased, are tested in test_ridge_coverage.py.
"""

from math import comb

import numpy as np
import pytest

from cokv_bench.game import (
    ESTIMATORS,
    estimate,
    exact_banzhaf,
    exact_cc,
    exact_shapley,
    exact_sliced,
    get_sampling,
    paper_slices,
)

WEIGHTS = np.array([0.1, 0.9, 0.4, 0.0, 1.5, 0.3, 0.6, 0.2, 0.7, 0.05, 1.1, 0.35])
NOISE = np.random.default_rng(5).normal(size=2**12)  # one number for each coalition, always the same
SEEDS = 160


def saturating(coalitions):
    """Players help less the more of them there are; two need each other, and one is worth nothing alone."""
    return 1 - np.exp(-(coalitions @ WEIGHTS[: coalitions.shape[1]])) + 0.3 * (coalitions[:, 0] & coalitions[:, 3])


def noisy(coalitions):
    """No symmetry at all."""
    players = coalitions.shape[1]
    return np.sqrt(coalitions @ WEIGHTS[:players]) + 0.2 * NOISE[coalitions @ (1 << np.arange(players))]


def truth(name, sampling, game, players):
    if name == "ssv":
        return exact_sliced(game, players, paper_slices(players))
    if name == "cc":
        return exact_cc(game, players, get_sampling(sampling).plan(players, 0).config()["sizes"])
    return (exact_banzhaf if name == "banzhaf" else exact_shapley)(game, players)


# KernelSHAP means the Shapley value where all sizes are sampled.
PAIRS = [
    (name, sampling)
    for name, chosen in ESTIMATORS.items()
    for sampling in (chosen.sampling, *chosen.also)
    if name != "ridge" and (name, sampling) not in [("kernelshap", s) for s in ("slices", "antithetic")]
]


@pytest.mark.parametrize(("name", "sampling"), PAIRS)
@pytest.mark.parametrize(("game", "players"), [(saturating, 7), (noisy, 8), (noisy, 12)])
def test_intervals_cover_the_exact_values(name, sampling, game, players):
    exact = truth(name, sampling, game, players)
    runs = [estimate(game, players, name, 80 * players, seed, sampling) for seed in range(SEEDS)]
    values = np.array([run.values for run in runs])
    # Where reverse orders cancel each other exactly an error of zero is right, up to rounding.
    covered = np.abs(values - exact) <= 1.96 * np.array([run.standard_errors for run in runs]) + 1e-12
    assert 0.93 <= covered.mean() <= 0.975
    assert covered.mean(axis=0).min() > 0.87
    bias = np.abs(values.mean(axis=0) - exact)
    assert (bias < 4 * values.std(axis=0) / np.sqrt(SEEDS) + 1e-12).all()


@pytest.mark.parametrize("sampling", ["slices", "antithetic"])
def test_stated_errors_without_a_target_are_the_spread_over_seeds(sampling):
    runs = [estimate(noisy, 12, "kernelshap", 600, seed, sampling) for seed in range(SEEDS)]
    values = np.array([run.values for run in runs])
    stated = np.sqrt(np.mean([run.standard_errors**2 for run in runs], axis=0))
    ratio = stated / values.std(axis=0)
    assert 0.9 < ratio.mean() < 1.12
    assert ratio.min() > 0.8
    assert ratio.max() < 1.25


def test_walks_need_their_units():
    """Taken for independent pairs, the coalitions of a walk understate the error by far."""

    def utility(coalitions):
        return np.tanh(coalitions @ WEIGHTS - 2)

    stated, mistaken, values = [], [], []
    for seed in range(80):
        plan = get_sampling("permutation").plan(12, seed)
        rows, units = plan.coalitions(0, 1200), plan.units(0, 1200)
        run = ESTIMATORS["shapley"].run(rows, utility(rows), units)
        values.append(run.values)
        stated.append(run.standard_errors**2)
        mistaken.append(ESTIMATORS["shapley"].run(rows, utility(rows)).standard_errors ** 2)
    spread = np.var(values, axis=0).mean()
    assert 0.85 < np.sqrt(np.mean(stated) / spread) < 1.15
    assert np.sqrt(np.mean(mistaken) / spread) < 0.75


def test_neyman_allocation_beats_equal_turns_where_sizes_differ():
    def error(sampling):
        exact = exact_shapley(peaked, 12)
        runs = [estimate(peaked, 12, "shapley", 1000, seed, sampling).values - exact for seed in range(60)]
        return np.mean(np.square(runs))

    assert error("neyman") < 0.8 * error("strata")


def peaked(coalitions):
    """Noise at the sizes 3 and 9 only; the rest is additive."""
    sizes = coalitions.sum(axis=1)
    noise = NOISE[coalitions @ (1 << np.arange(12))] * ((sizes == 3) | (sizes == 9))
    return 0.05 * (coalitions @ WEIGHTS) + noise


class Heads:
    """90 heads that add, and interact in pairs and threes, with all values known.

    Spread of the values and the residuals, odd and even under the complement, are those of the embedded model on
    needles.
    """

    players = 90

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.worth = rng.exponential(size=self.players) ** 1.5
        self.worth = 0.1 * (self.worth - self.worth.mean()) / self.worth.std()
        self.threes = np.array([rng.choice(self.players, 3, replace=False) for _ in range(400)])
        self.weights = rng.normal(scale=0.35 / 20, size=400)
        self.pairs = np.triu(rng.normal(size=(self.players, self.players)), 1)
        self.pairs *= 0.82 / np.sqrt(np.square(self.pairs).sum())
        inside = np.zeros((400, self.players))
        np.put_along_axis(inside, self.threes, 1, axis=1)
        self.of_head = self.weights @ inside  # of the threes with the head

    def __call__(self, coalitions):
        signs = 2.0 * coalitions - 1
        added = coalitions @ self.worth + signs[:, self.threes].prod(axis=-1) @ self.weights
        return added + ((signs @ self.pairs) * signs).sum(axis=1)

    def values(self, name):
        """What the estimator of that name estimates from the sampling that it is meant for."""
        if name == "banzhaf":
            return self.worth  # other heads are in as often as not: their signs average out
        if name in ("ssv", "cc"):
            both = np.array([self.contribution(size, True) for size in paper_slices(self.players)])
            if name == "ssv":
                return both.mean(axis=0)
            both -= [self.contribution(size, False) for size in paper_slices(self.players)]
            return both.mean(axis=0) / 2 - both.mean() / 2
        # A product of three signs is 8xyz - 4(xy + xz + yz) + 2(x + y + z) - 1, worth 8/3 - 4 + 2 to each; one of two
        # is worth nothing.
        return self.worth + 2 / 3 * self.of_head

    def contribution(self, size, inside):
        """Mean c(S) over the S of a size with the head, or without it; pairs have the same product in both."""
        left, players = size - inside, self.players - 1

        def product(count):
            """Mean product of the signs of so many other heads."""
            ways = range(max(0, count - players + left), min(count, left) + 1)
            return sum(comb(count, r) * (-1) ** (count - r) * comb(players - count, left - r) for r in ways) / comb(
                players, left
            )

        sign = 1 if inside else -1
        alone = sign * self.worth + (self.worth.sum() - self.worth) * product(1)
        threes = sign * self.of_head * product(2) + (self.weights.sum() - self.of_head) * product(3)
        return alone + 2 * threes


@pytest.fixture(scope="module")
def heads():
    return [Heads(seed) for seed in range(4)]


@pytest.mark.parametrize(
    ("name", "sampling", "counts"),
    [
        ("ssv", "slices", (160, 240, 500)),
        ("ssv", "antithetic", (160, 240, 500)),
        ("cc", "slices", (160, 240, 500)),
        ("cc", "antithetic", (160, 240, 500)),
        ("permutation", "permutation", (180, 270, 540)),
        ("kernelshap", "strata", (160, 240, 500)),
        ("kernelshap", "neyman", (240, 500)),
        ("kernelshap", "permutation", (450, 540)),
        ("banzhaf", "uniform", (80, 160, 240, 500)),
    ],
)
def test_intervals_cover_the_values_of_90_heads_at_the_numbers_of_pairs_in_use(heads, name, sampling, counts):
    # Five walks tell little of how the coalitions of a walk depend on each other.
    most = 0.98 if (name, sampling) == ("kernelshap", "permutation") else 0.97
    for pairs in counts:
        covered, known, errors, stated = [], [], [], []
        for seed in range(24):
            game = heads[seed % len(heads)]
            plan = get_sampling(sampling).plan(game.players, seed)
            pilot = game(plan.coalitions(0, plan.pilot_rows))
            coalitions = plan.coalitions(0, 2 * pairs, pilot)
            run = ESTIMATORS[name].run(coalitions, game(coalitions), plan.units(0, 2 * pairs))
            told = np.isfinite(run.standard_errors)
            gaps = (run.values - game.values(name))[told]
            covered.extend(np.abs(gaps) <= 1.96 * run.standard_errors[told])
            known.append(told.mean())
            errors.append(np.square(gaps).mean())
            stated.append(np.median(run.standard_errors[told]))
        assert np.mean(known) > 0.9
        assert 0.93 <= np.mean(covered) <= most, pairs
        # What --target-se compares is no smaller than the error that is there.
        assert np.mean(stated) > 0.9 * np.sqrt(np.mean(errors))


@pytest.mark.parametrize(
    ("name", "sampling", "pairs"), [("kernelshap", "strata", 80), ("permutation", "permutation", 90)]
)
def test_errors_that_cannot_be_told_are_infinite(heads, name, sampling, pairs):
    plan = get_sampling(sampling).plan(90, 0)
    coalitions = plan.coalitions(0, 2 * pairs)
    run = ESTIMATORS[name].run(coalitions, heads[0](coalitions), plan.units(0, 2 * pairs))
    assert np.isinf(run.standard_errors).all()
