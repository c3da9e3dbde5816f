"""The sampling plan: sizes, balance, and independence of how it is asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cokv_bench.errors import RequestError
from cokv_bench.game import SizesPlan, all_strata, paper_slices


@pytest.mark.parametrize(
    ("players", "slices"),
    [(256, (32, 64, 96, 128)), (512, (64, 128, 192, 256)), (90, (11, 23, 34, 45)), (10, (1, 3, 4, 5)), (1, (1,))],
)
def test_paper_slices(players, slices):
    assert paper_slices(players) == slices


def test_all_strata_are_the_sizes_from_one_to_players():
    assert sorted(all_strata(7)) == list(range(1, 8))
    half_a_round = all_strata(8)[: 8 // 2 + 1]
    assert {size for s in half_a_round for size in (s, 8 - s)} >= set(range(1, 9))


plans = st.builds(
    lambda players, seed, draw: SizesPlan(players, tuple(1 + d % players for d in draw), seed),
    st.integers(1, 70),
    st.integers(0, 2**64 - 1),
    st.lists(st.integers(0, 1000), min_size=1, max_size=5),
)


@settings(max_examples=60)
@given(plans, st.integers(0, 300), st.integers(0, 40), st.integers(0, 40))
def test_rows_do_not_depend_on_the_batch(plan, start, length, cut):
    rows = plan.coalitions(start, start + length)
    middle = start + min(cut, length)
    parts = np.concatenate([plan.coalitions(start, middle), plan.coalitions(middle, start + length)])
    np.testing.assert_array_equal(rows, parts)
    np.testing.assert_array_equal(rows, plan.coalitions(0, start + length)[start:])
    for k in range(start, start + length, 7):
        np.testing.assert_array_equal(plan.coalitions(k, k + 1)[0], rows[k - start])


@settings(max_examples=60)
@given(plans)
def test_rows_are_pairs_of_the_sizes_in_turn(plan):
    rows = plan.coalitions(0, 40)
    np.testing.assert_array_equal(rows[0::2], ~rows[1::2])
    sizes = [plan.sizes[p % len(plan.sizes)] for p in range(20)]
    assert rows[0::2].sum(axis=1).tolist() == sizes
    assert plan.row_sizes(0, 40).tolist() == [size for size in sizes for _ in range(2)]


@pytest.mark.parametrize("pairs", range(1, 12))
def test_every_prefix_is_balanced_and_the_first_slices_get_the_remainder(pairs):
    plan = SizesPlan(16, paper_slices(16), seed=3)
    counts = np.bincount(plan.coalitions(0, 2 * pairs)[0::2].sum(axis=1), minlength=9)[[2, 4, 6, 8]]
    assert counts.tolist() == [pairs // 4 + (i < pairs % 4) for i in range(4)]


def test_coalitions_are_uniform_within_a_size():
    rows = SizesPlan(5, (2,), seed=1).coalitions(0, 20000)[0::2]
    codes, counts = np.unique(rows @ (1 << np.arange(5)), return_counts=True)
    assert codes.size == 10
    expected = len(rows) / 10
    assert ((counts - expected) ** 2 / expected).sum() < 27.9  # 0.999 quantile of chi-square with 9 degrees


def test_seeds_give_different_coalitions():
    first, second = (SizesPlan(30, (15,), seed).coalitions(0, 20) for seed in (0, 1))
    assert (first != second).any(axis=1).all()


def test_plan_is_the_same_in_every_release():
    # A changed plan would make a ledger go on with other coalitions than it began with.
    rows = SizesPlan(6, paper_slices(6), seed=0).coalitions(0, 10)[0::2]
    assert (rows @ (1 << np.arange(6))).tolist() == [1, 10, 50, 2, 9]


@pytest.mark.parametrize("arguments", [(0, (1,), 0), (4, (), 0), (4, (5,), 0), (4, (0,), 0), (4, (2,), -1)])
def test_arguments_out_of_range(arguments):
    with pytest.raises(RequestError):
        SizesPlan(*arguments)


def test_rows_out_of_range():
    with pytest.raises(RequestError, match="do not exist"):
        SizesPlan(4, (2,)).coalitions(-1, 3)
