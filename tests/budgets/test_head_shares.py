"""The file of head shares: any budget in its range, exact totals, nothing read unchecked."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench.budgets import HeadShares
from cokv_bench.budgets.head_shares import knot_weights
from cokv_bench.errors import RequestError

MODEL = {"id": "toy", "layers": 2, "kv_heads": 3, "head_dim": 4, "weights": "ab12"}
SHARES = HeadShares(
    knots=(32, 128, 256),
    tables=np.array([[[0.0, 1, -2], [3, 0.5, 0]], [[0.1, -0.2, 0], [-0.5, 0.3, 0]], [[0.5, 0, 0], [0, 2, 0]]]),
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
    for name in ("knots", "window", "utilities", "tasks", "examples", "model", "search"):
        assert getattr(read, name) == getattr(SHARES, name)
    np.testing.assert_array_equal(read.tables, SHARES.tables)
    # Files of earlier versions do not say.
    assert read.documents == ()
    assert "documents" not in json.loads(path.read_text())
    replace(SHARES, documents=("text",)).save(path)
    assert HeadShares.load(path).documents == ("text",)


@given(st.integers(9, 5000), st.integers(1, 8))
def test_totals_are_exact_and_every_head_keeps_the_window(budget: int, window: int) -> None:
    tokens = SHARES.budgets(budget, window=window)
    assert tokens.sum() == budget * 6
    assert tokens.min() >= window


def test_shares_are_linear_in_the_logarithm_between_the_searched_budgets_and_constant_beyond() -> None:
    for knot, table in zip(SHARES.knots, SHARES.tables, strict=True):
        np.testing.assert_allclose(SHARES.log_shares(knot), table)
    np.testing.assert_allclose(SHARES.log_shares(64), SHARES.tables[:2].mean(axis=0))
    np.testing.assert_allclose(SHARES.log_shares(181), SHARES.tables[1:].mean(axis=0), atol=1e-2)
    np.testing.assert_array_equal(SHARES.log_shares(4096), SHARES.log_shares(256))
    np.testing.assert_array_equal(SHARES.log_shares(9), SHARES.log_shares(32))
    assert sum(knot_weights(SHARES.knots, 50)) == pytest.approx(1)
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
        ("log_shares", [[[0.0, 1.0], [2.0, 3.0]]] * 3, "log_shares"),
        ("log_shares", [[[0.0, 1.0, 2.0]] * 2] * 2, "a list of 3 tables"),
        ("log_shares", "much", "log_shares"),
        ("knots", [8, 128, 256], "the first above the window"),
        ("knots", [32, 256, 128], "budgets that rise"),
        ("knots", "32", "a list of integers"),
        ("window", 0, "Window 0"),
        ("kind", "head-values", "expected 'head-shares'"),
        ("kernel", 4, "The kernel is 4; expected a positive odd number"),
        ("pooling", "sum", "The pooling is 'sum'; expected max or avg"),
        ("examples", "aa", "examples"),
        ("documents", [1], "a list of strings"),
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
        replace(SHARES, tables=np.full((3, 2, 3), np.inf))
