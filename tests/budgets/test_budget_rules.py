"""The rules from head values and head scores to budgets: totals, order, and what leaves the result alone."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cokv_bench.budgets import from_head_scores, from_head_values
from cokv_bench.errors import RequestError

shapes = st.tuples(st.integers(1, 6), st.integers(1, 5))
tables = hnp.arrays(np.float64, shapes, elements=st.floats(-1e6, 1e6, width=32))
budgets = st.tuples(st.integers(1, 40), st.integers(1, 2000)).map(lambda pair: (pair[0] + pair[1], pair[0]))


@st.composite
def value_cases(draw):
    values = draw(tables)
    budget, window = draw(budgets)
    return values, budget, window, draw(st.integers(1, values.size))


@settings(max_examples=300)
@given(value_cases())
def test_cokv_conserves_the_total_and_the_order(case):
    values, budget, window, zeroed = case
    tokens = from_head_values(values, budget, window=window, zeroed=zeroed)
    assert tokens.dtype == np.int64
    assert tokens.shape == values.shape
    assert tokens.sum() == budget * values.size
    assert tokens.min() >= window
    order = np.argsort(values, axis=None)
    ranked_values, ranked = values.ravel()[order], tokens.ravel()[order]
    rises = np.diff(ranked_values) > 0
    assert (np.diff(ranked)[rises] >= 0).all()  # a higher value never gets fewer tokens
    floor = ranked_values[zeroed - 1]
    if floor < values.max():
        assert (tokens[values <= floor] == window).all()  # zeroed heads get exactly the window
    else:
        assert (tokens == budget).all()


@settings(max_examples=300)
@given(value_cases())
def test_cokv_published_rounding_is_at_most_one_token_below(case):
    values, budget, window, zeroed = case
    default = from_head_values(values, budget, window=window, zeroed=zeroed)
    published = from_head_values(values, budget, window=window, zeroed=zeroed, published_rounding=True)
    assert ((default - published >= 0) & (default - published <= 1)).all()


@settings(max_examples=300)
@given(value_cases(), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_cokv_is_invariant_to_affine_transforms(case, scale, shift):
    values, budget, window, zeroed = case
    moved = values * scale + shift
    # Values that a shift merges or parts by rounding are other values.
    spread = np.ptp(values)
    assume(spread > 1e-3)
    flat = np.sort(values, axis=None)
    floor = flat[zeroed - 1]
    assume(floor < flat[-1] and (flat[-1] - floor) * scale > 1e-6 * (np.abs(moved).max() + 1))
    one = from_head_values(values, budget, window=window, zeroed=zeroed)
    two = from_head_values(moved, budget, window=window, zeroed=zeroed)
    assert np.abs(one - two).max() <= 1


def test_cokv_by_hand():
    # Floor 1, excess 0 0 1 3; 4 heads with 10 beyond the window make 40 tokens to share: 0, 0, 10, 30.
    values = [[0.0, 1.0], [2.0, 4.0]]
    assert from_head_values(values, 18, window=8, zeroed=2).tolist() == [[8, 8], [18, 38]]
    # Zeroed 1: excess 0 1 2 4 of 7: 0, 5.71, 11.43, 22.86 and the two left over go to the largest remainders.
    assert from_head_values(values, 18, window=8, zeroed=1).tolist() == [[8, 14], [19, 31]]
    assert from_head_values(values, 18, window=8, zeroed=1, published_rounding=True).tolist() == [[8, 13], [19, 30]]


def test_cokv_equal_values_and_equal_remainders():
    assert from_head_values(np.full((2, 3), 0.7), 20, window=8, zeroed=3).tolist() == [[20] * 3] * 2
    assert from_head_values(np.full((2, 3), 0.7), 20, window=8, zeroed=3, published_rounding=True).sum() == 120
    assert from_head_values([[0.0, 1.0, 1.0]], 9, window=8, zeroed=1).tolist() == [[8, 10, 9]]  # lower index first


def test_cokv_one_head_may_take_all():
    tokens = from_head_values([[0.0, 0.0, 5e-324]], 100, window=8, zeroed=2)
    assert tokens.tolist() == [[8, 8, 8 + 3 * 92]]


@pytest.mark.parametrize("zeroed", [0, -1, 5])
def test_cokv_zeroed_out_of_range(zeroed):
    with pytest.raises(RequestError, match="must be 1 to 4, the number of KV heads"):
        from_head_values(np.eye(2), 64, window=8, zeroed=zeroed)


@pytest.mark.parametrize(
    ("budget", "window", "told"), [(8, 8, "not above the window"), (4, 8, "not above"), (8, 0, "window is 0")]
)
def test_budget_and_window_that_do_not_fit(budget, window, told):
    with pytest.raises(RequestError, match=told):
        from_head_values(np.eye(2), budget, window=window, zeroed=1)
    with pytest.raises(RequestError, match=told):
        from_head_scores(np.eye(2), budget, window=window, beta=2, kv_heads=2)


@pytest.mark.parametrize(
    "values", [np.zeros(3), np.zeros((0, 3)), np.zeros((1, 2, 3)), [[np.nan, 1.0]], [[np.inf, 1.0]]]
)
def test_tables_that_cannot_be_used(values):
    with pytest.raises(RequestError, match=r"shape|must be finite; layer 0, head 0"):
        from_head_values(values, 64, window=8, zeroed=1)
    with pytest.raises(RequestError, match=r"shape|must be finite"):
        from_head_scores(values, 64, window=8, beta=1.5, kv_heads=1)


@st.composite
def score_cases(draw):
    layers, kv_heads, group = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    scores = draw(hnp.arrays(np.float64, (layers, kv_heads * group), elements=st.floats(0, 1e3, width=32)))
    budget, window = draw(budgets)
    beta = draw(st.sampled_from([1, 1.005, 1.01, 1.1, 1.2, 1.5, 2, 5, 10, 1e9]))
    return scores, budget, window, beta, kv_heads


@settings(max_examples=300)
@given(score_cases())
def test_headkv_conserves_the_total_and_the_order(case):
    scores, budget, window, beta, kv_heads = case
    tokens = from_head_scores(scores, budget, window=window, beta=beta, kv_heads=kv_heads)
    assert tokens.dtype == np.int64
    assert tokens.sum() == budget * tokens.size
    base = budget - window
    assert tokens.min() >= window + int(base - base // beta)
    averaged = scores.reshape(*tokens.shape, -1).mean(axis=-1)
    order = np.argsort(averaged, axis=None)
    clear = np.diff(averaged.ravel()[order]) > 1e-9 * scores.sum()
    assert (np.diff(tokens.ravel()[order])[clear] >= 0).all()
    again = from_head_scores(scores * 3.7, budget, window=window, beta=beta, kv_heads=kv_heads)
    assert np.abs(again - tokens).max() <= 1


@settings(max_examples=300)
@given(score_cases())
def test_headkv_published_rounding_is_within_one_token(case):
    scores, budget, window, beta, kv_heads = case
    default, published = (
        from_head_scores(scores, budget, window=window, beta=beta, kv_heads=kv_heads, published_rounding=flag)
        for flag in (False, True)
    )
    assert np.abs(default - published).max() <= 1


def test_headkv_by_hand():
    # Base 16, beta 2: 8 of each head's 16 are pooled, so 8 * 4 query heads by score and 8 for each.
    scores = [[3.0, 1.0], [0.0, 0.0]]
    assert from_head_scores(scores, 24, window=8, beta=2, kv_heads=2).tolist() == [[8 + 8 + 24, 8 + 8 + 8], [16, 16]]
    assert from_head_scores(scores, 24, window=8, beta=2, kv_heads=1).tolist() == [[32], [16]]
    assert from_head_scores(np.zeros((2, 2)), 24, window=8, beta=2, kv_heads=2).tolist() == [[24, 24]] * 2
    assert from_head_scores(scores, 24, window=8, beta=1, kv_heads=2).tolist() == [[8 + 48, 8 + 16], [8, 8]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"beta": 0.5}, "beta is 0.5"),
        ({"beta": float("nan")}, "beta is nan"),
        ({"kv_heads": 3}, "4 query heads cannot be grouped into 3 KV heads"),
        ({"kv_heads": 0}, "cannot be grouped"),
        ({"kv_heads": 8}, "cannot be grouped"),
        ({"scores": -np.ones((2, 4))}, "must not be negative"),
    ],
)
def test_headkv_requests_that_cannot_be_met(change, told):
    arguments = {"scores": np.ones((2, 4)), "beta": 1.5, "kv_heads": 2} | change
    with pytest.raises(RequestError, match=told):
        from_head_scores(budget=64, window=8, **arguments)
