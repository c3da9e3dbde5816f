"""Attention of any queries over a prompt, and what becomes of it, against plain loops."""

import math

import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.policies.attention import Aggregation, attention


def slow(queries: torch.Tensor, keys: torch.Tensor, scaling: float, own: int) -> torch.Tensor:
    heads, count, _ = queries.shape
    kv_heads, tokens, _ = keys.shape
    group = heads // kv_heads
    found = torch.zeros(kv_heads, group, count, tokens, dtype=torch.float64)
    for head in range(heads):
        for query in range(count):
            last = tokens - own + query if query < own else tokens - 1
            scores = [float(queries[head, query] @ keys[head // group, token]) * scaling for token in range(last + 1)]
            peak = max(scores)
            mass = sum(math.exp(score - peak) for score in scores)
            for token, score in enumerate(scores):
                found[head // group, head % group, query, token] = math.exp(score - peak) / mass
    return found


@pytest.mark.parametrize("own", [0, 1, 3])
def test_the_prompts_last_queries_see_no_later_token_and_others_all(own: int) -> None:
    generator = torch.Generator().manual_seed(own)
    queries = torch.randn(4, 5, 6, generator=generator, dtype=torch.float64)
    keys = torch.randn(2, 9, 6, generator=generator, dtype=torch.float64)
    found = attention(queries.float(), keys.float(), 0.7, own=own)
    torch.testing.assert_close(found.double(), slow(queries, keys, 0.7, own), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 2, 5))


def test_aggregations_by_hand() -> None:
    seen = torch.tensor([[[[0.1, 0.6, 0.3], [0.5, 0.1, 0.4]], [[0.2, 0.2, 0.6], [0.0, 0.9, 0.1]]]])

    def of(**how: object) -> list[float]:
        return [round(value, 4) for value in Aggregation(kernel=1, **how)(seen)[0].tolist()]  # type: ignore[arg-type]

    assert of() == [0.2, 0.45, 0.35]
    assert of(queries="max") == [0.35, 0.75, 0.5]
    assert of(queries="max", group="max") == [0.5, 0.9, 0.6]
    assert of(group="max") == [0.3, 0.55, 0.35]
    assert of(floor=True) == [0.3333, 0.45, 0.35]


@pytest.mark.parametrize("how", [{"kernel": 4}, {"pooling": "sum"}, {"queries": "median"}, {"group": "first"}])
def test_an_aggregation_that_is_none_is_refused(how: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        Aggregation(**how)  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RequestError, match="must fit"):
        attention(torch.zeros(2, 3, 4), torch.zeros(1, 2, 4), 1.0, own=3)
