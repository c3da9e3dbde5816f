"""Sign flips against every pattern counted by hand, other people's exact tests, and the errors that they promise."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, wilcoxon

from cokv_bench.scores.signflips import Outcome, family_test


def alone(shares: list[float] | NDArray[np.float64], seed: int = 0) -> float:
    column = np.array(shares, float)[:, None]
    return float(family_test(column, np.array([len(column)]), seed).p_value[0])


def stepped_down(shares: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """p-values alone and corrected, comparison by comparison and pattern by pattern."""
    scale = np.sqrt((shares**2).sum(axis=0))
    patterns = np.array(list(itertools.product([-1, 1], repeat=len(shares))))
    flipped, observed = np.abs(patterns @ shares) / scale, np.abs(shares.sum(axis=0)) / scale
    corrected, before = np.zeros(len(scale)), 0.0
    for place in np.argsort(-observed):
        rivals = observed <= observed[place]
        before = max(before, (flipped[:, rivals].max(axis=1) >= observed[place] - 1e-9).mean())
        corrected[place] = before
    return (flipped >= observed - 1e-9).mean(axis=0), corrected


def test_one_comparison_is_exact() -> None:
    assert alone(np.ones(6)) == 2 / 2**6
    assert alone([1.0, 0, 0]) == alone(np.zeros(5)) == alone([1.0, -1.0]) == 1.0
    # PyramidKV against SnapKV on 72 needles at 128 tokens: 2 won, 14 lost.
    assert alone([1.0] * 2 + [-1.0] * 14 + [0.0] * 56) == pytest.approx(0.00418, abs=5e-6)
    assert alone([0.01] * 60 + [-0.01] * 30) == pytest.approx(binomtest(60, 90).pvalue)
    for n in (8, 23):
        ranks = np.arange(1.0, n + 1) * np.where(np.arange(n) % 4 == 2, -1, 1)  # ranks are their own ranks
        assert alone(ranks) == pytest.approx(wilcoxon(ranks, method="exact").pvalue)


def test_a_family_is_stepped_down_over_every_pattern() -> None:
    chance = np.random.default_rng(0)
    shares = chance.normal(size=(9, 5)) + np.array([0, 0.6, 1.2, 0, -1])
    shares[:, 3] = np.sign(shares[:, 3]) * (np.arange(9) < 4)
    found = family_test(shares, np.full(5, 9), 0)
    alone, corrected = stepped_down(shares)
    np.testing.assert_allclose(found.p_value, alone)
    np.testing.assert_allclose(found.adjusted, corrected)
    assert not found.error.any()
    assert (found.adjusted >= found.p_value).all()


def test_drawn_flips_agree_with_every_pattern_within_their_error() -> None:
    """21 examples are drawn; of those one is as good as nothing, so that the patterns of 20 are all of them."""
    chance = np.random.default_rng(1)
    shares = chance.normal(size=(21, 6)) + 0.55
    shares[20] = 1e-9
    drawn, counted = (family_test(shares[:rows], np.full(6, 20), 0) for rows in (21, 20))
    assert not counted.error.any()
    assert drawn.error.any()
    np.testing.assert_array_less(np.abs(drawn.adjusted - counted.adjusted), 5 * drawn.error + 1e-5)


def test_the_same_comparison_many_times_costs_nothing() -> None:
    """Benjamini and Yekutieli's rule would multiply the p-value by 4.3 for forty copies, Bonferroni's by 40."""
    column = np.random.default_rng(2).normal(size=40) + 0.5
    one, many = (family_test(np.tile(column[:, None], copies), np.full(copies, 40), 0) for copies in (1, 40))
    assert one.adjusted[0] == one.p_value[0]
    np.testing.assert_allclose(many.adjusted, one.adjusted[0], atol=4 * many.error[0])


def test_no_verdict_hangs_on_the_seed() -> None:
    chance = np.random.default_rng(3)
    shares = chance.normal(size=(60, 12)) + np.linspace(0, 0.6, 12)
    found = [family_test(shares, np.full(12, 60), seed) for seed in range(5)]
    assert len({tuple(each.adjusted < 0.05) for each in found}) == 1
    assert max(np.abs(each.adjusted - found[0].adjusted).max() for each in found) < 0.01


def test_the_least_that_so_many_examples_can_give() -> None:
    def tested(examples: int, others: int) -> Outcome:
        shares = np.random.default_rng(4).normal(size=(40, 1 + others))
        shares[examples:, 0] = 0
        return family_test(shares, np.array([examples] + [40] * others), 0)

    assert tested(5, 0).least[0] == 2 / 2**5
    assert tested(6, 0).least[0] == 2 / 2**6
    assert family_test(np.ones((6, 1)), np.array([6]), 0).least[0] == 2 / 2**6
    # Among forty others some statistic is often as large as that of six examples that all agree.
    assert tested(6, 40).least[0] > 0.3
    assert tested(30, 40).least[0] < 0.05
    assert tested(3, 40).least[0] > tested(6, 40).least[0]


def test_alike_methods_are_called_different_as_rarely_as_said() -> None:
    """Of 600 families of eight dependent comparisons about 5% have a significant one: 3% to 7% at two errors."""
    chance = np.random.default_rng(5)
    wrong = 0
    for run in range(600):
        scores = (chance.random((30, 1)) + chance.normal(size=(30, 9)) > 0.7).astype(float)
        shares = scores[:, 1:] - scores[:, :1]
        found = family_test(shares, np.full(8, 30), run, drawn_at_most=2**14)
        wrong += bool((found.adjusted < 0.05).any())
    assert 0.03 <= wrong / 600 <= 0.07
