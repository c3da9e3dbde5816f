"""What a minibatch adds to the gradient."""

import pytest
import torch

from cokv_bench.models import Model
from cokv_bench.search import SearchExamples
from cokv_bench.search.ascent import follow
from cokv_bench.search.examples import Point
from cokv_bench.tasks.registry import TaskOptions, resolve


@pytest.mark.parametrize(("weight", "cut"), [(1e-6, False), (1e6, True)])
def test_an_example_pulls_along_its_gradient_and_no_further_than_the_limit(
    texty: Model, weight: float, cut: bool
) -> None:
    tasks = resolve(["needle"], texty, TaskOptions(lengths=(300,), examples=2))
    examples, point = SearchExamples(texty, tasks, ["loglik"], window=8), Point(0, 40)
    plain, pulled = (torch.zeros(texty.layers, texty.kv_heads, requires_grad=True) for _ in range(2))
    examples.score([point], [plain], [weight])
    follow(examples, [point], [pulled + 0], [weight])
    assert plain.grad is not None
    assert pulled.grad is not None
    assert torch.allclose(pulled.grad.mean(), torch.zeros(()), atol=1e-6)
    along = plain.grad - plain.grad.mean()
    length = 0.3 if cut else float(along.norm())
    assert torch.allclose(pulled.grad, along / along.norm() * length, rtol=1e-3, atol=1e-9)
