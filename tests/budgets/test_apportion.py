"""Whole tokens from shares, against exact fractions."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cokv_bench.budgets import apportion


def by_fractions(shares: list[Fraction], total: int, cap: int) -> list[int]:
    """The rule of the docstring without floats; at least one share is positive."""
    ideal = [Fraction(0)] * len(shares)
    free, left = [k for k, share in enumerate(shares) if share], Fraction(total)
    while free and left:
        scale = left / sum(shares[k] for k in free)
        full = [k for k in free if shares[k] * scale >= cap]
        for k in full or free:
            ideal[k] = Fraction(cap) if full else shares[k] * scale
        left = left - cap * len(full) if full else Fraction(0)
        free = [k for k in free if k not in full]
    if left:
        rest = [k for k, share in enumerate(shares) if not share]
        for k in rest:
            ideal[k] = left / len(rest)
    tokens = [floor(x) for x in ideal]
    order = sorted((k for k in range(len(shares)) if tokens[k] < cap), key=lambda k: tokens[k] - ideal[k])
    for k in order[: total - sum(tokens)]:
        tokens[k] += 1
    return tokens


def test_equal_remainders_go_to_the_lower_index_whatever_floats_make_of_them() -> None:
    assert apportion([9.6, 25.6, 11.2, 17.6], 64, 52).tolist() == [10, 26, 11, 17]


@settings(max_examples=400)
@given(st.data())
def test_shares_of_ada_kv_are_split_as_exact_fractions_are(data: st.DataObject) -> None:
    """A layer with a safeguard of 0.2: shares are multiples of 0.2, and ties are common."""
    heads, base = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 4000))
    parts = data.draw(st.lists(st.integers(0, 1000), min_size=heads, max_size=heads).filter(any))
    hits = by_fractions([Fraction(part) for part in parts], base * heads, base * heads)
    cap = data.draw(st.integers(base, 3 * base))
    shares = 0.8 * np.array(hits) + 0.2 * base
    exact = [Fraction(4 * hit + base, 5) for hit in hits]
    found = apportion(shares, base * heads, cap)
    assert found.sum() == base * heads
    assert found.max() <= cap
    assert found.tolist() == by_fractions(exact, base * heads, cap)


@pytest.mark.parametrize("base", [10**3, 10**5, 10**7])
def test_ties_hold_at_any_total(base: int) -> None:
    """Thirds, fifths and sevenths of a token in totals of up to 10**9."""
    rng = np.random.default_rng(base)
    for parts in (3, 5, 7) * 20:
        shares = rng.integers(0, parts * base, size=90)
        total = int(shares.sum()) // parts
        cap = 2 * base
        found = apportion(shares / parts, total, cap)
        assert found.sum() == total
        assert found.max() <= cap
        assert found.tolist() == by_fractions([Fraction(int(share), parts) for share in shares], total, cap)
