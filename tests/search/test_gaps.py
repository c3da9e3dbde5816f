"""Scores of different groups on one scale."""

import pytest

from cokv_bench.search.gaps import Gaps
from cokv_bench.search.ledger import Ends

GROUPS = ["a", "b", "a", "b", "c"]
ENDS = Ends(
    full=[-1.0, -0.5, -3.0, None, -2.0],
    uniform={"32": [-2.0, -4.5, -6.0, None, -1.99], "128": [-1.5, -1.5, -3.5, None, -2.0]},
)


def test_equal_shares_close_nothing_of_a_group_and_the_full_cache_all() -> None:
    gaps = Gaps(GROUPS, ENDS)
    assert gaps.gap(0, 32) == gaps.gap(2, 32) == 2.0
    assert [gaps.closed(case, 32, full) for case, full in ((0, -1.0), (2, -3.0))] == [1, 1]
    assert sum(gaps.closed(case, 32, score) for case, score in ((0, -2.0), (2, -6.0))) == 0
    assert gaps.closed(0, 32, -0.5) == 1.25


def test_a_group_that_loses_nothing_is_weighed_as_if_it_lost_a_little() -> None:
    assert Gaps(GROUPS, ENDS).gap(4, 32) == 0.25


def test_cases_that_budgets_cannot_change_play_no_part() -> None:
    gaps = Gaps(GROUPS, ENDS)
    assert gaps.members([4, 3, 1, 0]) == {"c": [4], "b": [1], "a": [0]}
    with pytest.raises(KeyError):
        gaps.closed(3, 32, -1.0)


def test_over_several_groups_the_gain_is_divided_by_the_gap() -> None:
    gaps = Gaps(GROUPS, ENDS)
    equal = {0: -2.0, 1: -4.5, 2: -6.0, 4: -1.99}
    full = {0: -1.0, 1: -0.5, 2: -3.0, 4: -2.0}
    assert gaps.closed_over(32, equal) == 0
    assert gaps.closed_over(32, full) == pytest.approx(1)
    # Group a gains half a nat of the two that it loses, b one of four; c, which loses nothing, hardly counts.
    some = {0: -1.5, 1: -3.5, 2: -5.5, 4: -1.99}
    assert gaps.closed_over(32, some) == pytest.approx((0.5 + 1 + 0) / (2 + 4 - 0.01))


def test_groups_that_lose_nothing_together_do_not_divide_by_nothing() -> None:
    assert Gaps(GROUPS, ENDS).closed_over(32, {4: -1.49}) == pytest.approx(0.5 / 0.25)
