"""Intervals cover what they say at the numbers of rows that tables have, and are those of the literature."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, t, ttest_1samp, ttest_ind

from cokv_bench.scores.intervals import GAINS, SCORES, interval, ratio_intervals, spread


def covered(draw: Callable[[np.random.Generator], tuple[float, float]], draws: int = 1500) -> float:
    """Share of the intervals, moved by the truth, that hold 0."""
    chance = np.random.default_rng(0)
    ends = np.array([draw(chance) for _ in range(draws)])
    return float(((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean())


@pytest.mark.parametrize(
    "counts",
    [[2, 4, 6] * 13 + [4, 4], [4, 5] * 8, [3] * 11, [6] * 11, [2, 3] * 6, [3], [4], [6], [72]],
    ids=["41 of 2 to 6", "16 of 4 to 5", "11 of 3", "11 of 6", "12 of 2 to 3", "3", "4", "6", "72"],
)
def test_means_over_tasks_with_few_rows(counts: list[int]) -> None:
    scales = np.linspace(0.5, 2, len(counts))
    share = covered(lambda chance: interval([s * chance.normal(size=n) for n, s in zip(counts, scales, strict=True)]))
    assert 0.93 <= share <= 0.97


@pytest.mark.parametrize("n", [24, 72, 240])
def test_answers_that_are_right_or_wrong(n: int) -> None:
    def share(chance: np.random.Generator) -> tuple[float, float]:
        true = chance.uniform(0.02, 0.98)
        low, high = interval([100.0 * (chance.random(n) < true)], SCORES)
        return low - 100 * true, high - 100 * true

    def difference(chance: np.random.Generator) -> tuple[float, float]:
        low, high = interval([chance.choice([100.0, -100.0, 0.0], n, p=[0.2, 0.1, 0.7])], GAINS)
        return low - 10, high - 10

    assert 0.93 <= covered(share) <= 0.97
    assert 0.93 <= covered(difference) <= 0.985


@pytest.mark.parametrize("tasks", [[72], [4, 5] * 8])
def test_shares_of_a_gap(tasks: list[int]) -> None:
    def ratio(chance: np.random.Generator) -> tuple[float, float]:
        groups = []
        for n in tasks:
            gap = 2 + chance.normal(size=n)
            groups.append(np.stack([0.6 * gap + chance.normal(size=n), gap]))
        lows, highs = ratio_intervals(groups)
        return lows[0] - 0.6, highs[0] - 0.6

    assert 0.93 <= covered(ratio) <= 0.97


def test_one_group_has_the_t_interval() -> None:
    values = np.random.default_rng(1).random(9)
    expected = ttest_1samp(values, 0).confidence_interval()
    assert interval([values]) == pytest.approx((expected.low, expected.high))


def test_two_groups_have_welchs_interval() -> None:
    chance = np.random.default_rng(2)
    one, other = chance.random(5), 3 * chance.random(8)
    expected = ttest_ind(one, -other, equal_var=False).confidence_interval()
    low, high = interval([one, other])
    assert (2 * low, 2 * high) == pytest.approx((expected.low, expected.high))
    assert spread([one, one]).error == pytest.approx(one.std(ddof=1) / np.sqrt(10))


@pytest.mark.parametrize(("right", "n"), [(0, 72), (72, 72), (27, 72), (1, 6)])
def test_one_group_of_right_or_wrong_has_wilsons_interval(right: int, n: int) -> None:
    values = np.repeat([100.0, 0.0], [right, n - right])
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert interval([values], SCORES) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-4)


def test_what_never_varies_is_not_certain() -> None:
    """None of 72 found is compatible with one in twenty, and no difference on 72 with one of some points."""
    assert interval([np.zeros(72)], SCORES) == pytest.approx((0, 5.07), abs=0.01)
    low, high = interval([np.zeros(72)], GAINS)
    assert -high == low == pytest.approx(-3.75, abs=0.01)
    # Of several tasks without any variance, all rows count as one task's.
    assert interval([np.zeros(30), np.zeros(42)], SCORES) == interval([np.zeros(72)], SCORES)
    # Rows that agree on a value between the bounds are no more certain, and the interval holds it.
    for value, bounds in ((25.0, SCORES), (25.0, GAINS), (-60.0, GAINS)):
        for rows in (3, 4, 400):
            low, high = interval([np.full(rows, value)], bounds)
            assert bounds[0] <= low < value < high <= bounds[1]
    # Equal log-probabilities come from equal choices of tokens.
    assert interval([np.zeros(72)]) == (0, 0)


@pytest.mark.parametrize("bounds", [SCORES, GAINS])
def test_tasks_that_each_agree_on_another_value_have_an_interval_around_their_mean(bounds: tuple[float, float]) -> None:
    """The mean of the tasks counts them alike, however many rows each has."""
    few, many = np.full(3, 100.0), np.zeros(200)
    low, high = interval([few, many], bounds)
    assert low < 50 < high
    # The difference between the tasks is no noise: more rows of both narrow it.
    narrow = interval([np.full(1000, 100.0), np.zeros(1000)], bounds)
    assert 48 < narrow[0] < 50 < narrow[1] < 52
    # A task that is known exactly adds next to nothing to the other's interval, halved by the mean.
    alone = interval([few], bounds)
    sure = interval([few, np.zeros(10**7)], bounds)
    assert sure == pytest.approx((alone[0] / 2, alone[1] / 2), abs=0.01)


def test_a_ratio_of_what_never_varies_has_no_interval() -> None:
    constant = np.stack([np.full(12, 100.0), np.full(12, 100.0)])
    assert np.isnan(ratio_intervals([constant])).all()


def test_too_few_rows_have_no_interval() -> None:
    for groups in ([[1.0, 2.0]], [[1.0]], [[1.0, 2.0, 4.0], [3.0]]):
        assert np.isnan(interval([np.array(group) for group in groups])).all()
    numbers: list[NDArray[np.float64]] = [np.array([[1.0, 2.0], [3.0, 4.0]])]
    assert np.isnan(ratio_intervals(numbers)).all()
    # A mean over two tasks of two rows has one.
    assert np.isfinite(interval([np.array([1.0, 2.0]), np.array([2.0, 4.0])])).all()


def test_intervals_stay_where_scores_can_be() -> None:
    assert interval([np.array([90.0, 99.0, 100.0])], SCORES)[1] == 100
    assert interval([np.array([0.0, 3.0, 1.0])], SCORES)[0] == 0


def test_a_ratio_by_hand() -> None:
    """Fieller's interval holds the ratios whose numerator - ratio x denominator has an interval that holds 0."""
    chance = np.random.default_rng(3)
    gap = 2 + chance.normal(size=12)
    gain = gap / 2 + chance.normal(size=12)
    (low,), (high,) = ratio_intervals([np.stack([gain, gap])])
    quantile = t.ppf(0.975, 11)
    for end in (low, high):
        rest = gain - end * gap
        assert abs(rest.mean()) == pytest.approx(quantile * rest.std(ddof=1) / np.sqrt(12))
    assert low < gain.mean() / gap.mean() < high
    assert np.isnan(ratio_intervals([np.stack([gain, gap - gap.mean()])])).all()
