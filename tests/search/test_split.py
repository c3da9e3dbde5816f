"""From log-shares to tokens: sums, caps, and the same numbers as the budget files' own rule."""

import numpy as np
import pytest
import torch

from cokv_bench.budgets import apportion
from cokv_bench.search.shares import split


@pytest.mark.parametrize("room", [10, 25, 400])
def test_tokens_are_those_of_the_budget_rule_before_rounding(room: int) -> None:
    shares = torch.randn(5, 4, generator=torch.Generator().manual_seed(room)) * 3
    tokens = split(shares, 200, room)
    whole = apportion(shares.double().exp().numpy(), 200, room)
    assert tokens.sum() == pytest.approx(200, abs=1e-3)
    np.testing.assert_allclose(tokens.numpy(), whole, atol=1)


def test_a_total_that_fills_all_heads_leaves_nothing_to_choose() -> None:
    shares = torch.randn(2, 3, requires_grad=True)
    tokens = split(shares, 60, 10)
    assert tokens.tolist() == [[10.0] * 3] * 2
    tokens.sum().backward()
    assert shares.grad is not None
    assert not shares.grad.any()


def test_what_one_head_gains_the_others_lose() -> None:
    shares = torch.tensor([[0.0, 1.0, 5.0, 0.5]], requires_grad=True)
    tokens = split(shares, 100, 60)
    assert tokens[0, 2] == 60
    tokens[0, 0].backward()
    assert shares.grad is not None
    assert shares.grad[0, 0] > 0
    assert shares.grad[0, 2] == 0
    assert float(shares.grad.sum()) == pytest.approx(0, abs=1e-5)
