"""Budgets: numbers of tokens and shares of the prompt, as texts, in order, and in tokens."""

import pickle
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench.budget import PromptShare, column_type, in_tokens, only_tokens, read, tokens_of, written
from cokv_bench.errors import RequestError
from cokv_bench.option import budgets

SHARES = ("1%", "9%", "12.5%", "25%", "100%")


@pytest.mark.parametrize(
    ("text", "told"), [("25%", "25%"), ("25 %", "25%"), ("025.0%", "25%"), ("100%", "100%"), ("0.5%", "0.5%")]
)
def test_a_share_is_one_however_it_is_written(text: str, told: str) -> None:
    share = PromptShare.parse(text)
    assert str(share) == written(share) == told
    assert read(told) == share == pickle.loads(pickle.dumps(share))
    assert hash(share) == hash(PromptShare.parse(told))


@pytest.mark.parametrize("text", ["0%", "0.0%", "100.5%", "101%", "-5%", "25", "%", "1e1%", "nan%", "٢%", "2,5%"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(RequestError) as refusal:
        PromptShare.parse(text)
    assert str(refusal.value).count(".") <= 3
    assert "%" in str(refusal.value)


def test_a_list_of_both_kinds() -> None:
    found = budgets("64, 128,25%,25.0%,12.5 %", "budget")
    assert found == [64, 128, PromptShare(Decimal(25)), PromptShare(Decimal("12.5"))]
    assert in_tokens(found) == [64, 128]
    for text in ("0,25%", "64;25%", "25%%", "x"):
        with pytest.raises(RequestError):
            budgets(text, "budget")
    with pytest.raises(RequestError, match="`cokv-bench tune` takes budgets in tokens per head, not 25%"):
        only_tokens(found, "tune")
    assert only_tokens([64], "tune") == [64]


@given(st.integers(1, 10**6), st.integers(1, 10_000))
def test_tokens_are_the_nearest_whole_number(tokens: int, hundredths: int) -> None:
    share = PromptShare(Decimal(hundredths) / 100)
    assert abs(share.of(tokens) - tokens * hundredths / 10_000) <= 0.5
    assert tokens_of(str(share), tokens) == tokens_of(share, tokens) == share.of(tokens) <= tokens


def test_halves_go_to_the_even_number_and_other_budgets_stay() -> None:
    assert [tokens_of("12.5%", tokens) for tokens in (4, 12, 1000)] == [0, 2, 125]
    # As a float it would be 33.299999999999997.
    assert tokens_of("33.3%", 100_000) == 33_300
    assert tokens_of("100%", 7) == 7
    assert (tokens_of(64, 10), tokens_of(None, 10)) == (64, None)


@given(st.permutations([64, 2, 4096, *SHARES]))
def test_tokens_come_before_shares(mixed: list[int | str]) -> None:
    wanted = [2, 64, 4096, *SHARES]
    found = [read(each) for each in mixed]
    assert [written(budget) for budget in sorted(found)] == wanted
    column = pd.Series([None, *found], dtype=column_type(found))
    assert list(map(written, column.sort_values().iloc[:-1])) == wanted
    assert [written(name) for name, _ in column.groupby(column)] == wanted
    assert min(column.dropna()) == column.dropna().min() == 2
    share = PromptShare.parse("9%")
    assert np.int64(4096) < share
    assert not share < np.int64(4096)
    assert share != 9


def test_columns_of_tokens_alone_are_whole_numbers() -> None:
    assert column_type([64, None, pd.NA]) == "Int64"
    assert column_type([64, None, PromptShare.parse("9%")]) == "object"
