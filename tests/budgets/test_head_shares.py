"""The file of head shares: any budget in its range, exact totals, nothing read unchecked."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench.budgets import HeadShares
from cokv_bench.errors import RequestError

MODEL = {"id": "toy", "layers": 2, "kv_heads": 3, "head_dim": 4, "weights": "ab12"}
SHARES = HeadShares(
    level=np.array([[0.0, 1.0, -2.0], [3.0, 0.5, 0.0]]),
    slope=np.array([[0.1, -0.2, 0.0], [-0.5, 0.3, 0.0]]),
    lowest=32,
    highest=512,
    window=8,
    utilities=("agreement", "loglik"),
    tasks=("needle",),
    examples=("aa", "bb"),
    model=MODEL,
    search={"steps": 3},
)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "shares.json"
    SHARES.save(path)
    read = HeadShares.load(path)
    for name in ("lowest", "highest", "window", "utilities", "tasks", "examples", "model", "search"):
        assert getattr(read, name) == getattr(SHARES, name)
    np.testing.assert_array_equal(read.level, SHARES.level)
    np.testing.assert_array_equal(read.slope, SHARES.slope)


@given(st.integers(9, 5000), st.integers(1, 8))
def test_totals_are_exact_and_every_head_keeps_the_window(budget: int, window: int) -> None:
    tokens = SHARES.budgets(budget, window=window)
    assert tokens.sum() == budget * 6
    assert tokens.min() >= window


def test_shares_follow_the_logarithm_of_the_budget_within_the_range() -> None:
    assert SHARES.middle == 128
    np.testing.assert_array_equal(SHARES.log_shares(128), SHARES.level)
    np.testing.assert_allclose(SHARES.log_shares(256), SHARES.level + SHARES.slope)
    np.testing.assert_array_equal(SHARES.log_shares(4096), SHARES.log_shares(512))
    np.testing.assert_array_equal(SHARES.log_shares(9), SHARES.log_shares(32))
    beyond = SHARES.budgets(256, window=8) - 8
    np.testing.assert_allclose(
        beyond / beyond.sum(), np.exp(SHARES.log_shares(256)) / np.exp(SHARES.log_shares(256)).sum(), atol=1e-3
    )


def test_a_budget_within_the_window_is_refused() -> None:
    with pytest.raises(RequestError, match="not above the window of 8"):
        SHARES.budgets(8, window=8)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("level", [[0.0, 1.0], [2.0, 3.0]], "level"),
        ("slope", "much", "slope"),
        ("lowest", 8, "window < lowest"),
        ("highest", 16, "lowest <= highest"),
        ("window", 0, "Window 0"),
        ("kind", "head-values", "expected 'head-shares'"),
        ("examples", "aa", "examples"),
        ("search", [], "search"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path, field: str, value: object, said: str) -> None:
    path = tmp_path / "shares.json"
    SHARES.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(RequestError, match=said) as refused:
        HeadShares.load(path)
    assert str(path) in str(refused.value)


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(RequestError, match="finite"):
        replace(SHARES, level=np.full((2, 3), np.inf))
