"""Estimates of cost, against numbers counted in another way."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cokv_bench.costs.estimate import Load, Shape, estimate, matrix_speed
from cokv_bench.costs.planned import plan_loads
from cokv_bench.costs.reproduction import read_reproduction
from cokv_bench.models import Model
from cokv_bench.runs.request import plan_request
from cokv_bench.tasks.prompts import encode_example
from cokv_bench.tasks.registry import TaskOptions
from tests.costs.test_reproduction import works
from tests.requests import request_of

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "reproduce"


def test_weights_are_those_of_the_model(tiny: Model) -> None:
    shape = Shape.of(tiny)
    counted = sum(
        module.weight.numel()
        for name, module in tiny.network.named_modules()
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name
    )
    assert shape.layer_weights == counted
    assert shape.output_weights == tiny.network.get_output_embeddings().weight.numel()
    assert shape.token_bytes == tiny.bytes_per_token * tiny.layers * tiny.kv_heads


def test_operations_are_those_that_pytorch_counts(tiny_llama: Model) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    tokens = 200
    with FlopCounterMode(display=False) as counter:
        tiny_llama.network(torch.randint(3, 120, (1, tokens)), logits_to_keep=1)
    expected = counter.get_total_flops()
    prefill = estimate(Shape.of(tiny_llama), [Load(1, tokens, 1, 1)]).prefill
    # PyTorch does not count its fused attention: two products of the causal half of tokens by tokens per head.
    attention = 2 * 2 * tiny_llama.head_dim * tokens**2 / 2 * tiny_llama.heads * tiny_llama.layers
    assert prefill - attention == pytest.approx(expected, rel=1e-6)


def test_loads_add_up(tiny_llama: Model) -> None:
    shape = Shape.of(tiny_llama)
    one, two = Load(3, 100, 5, 10), Load(2, 300, 7, 4, accumulated=True)
    apart, both = [estimate(shape, [load]) for load in (one, two)], estimate(shape, [one, two])
    assert both.prefill == apart[0].prefill + apart[1].prefill
    assert both.decode == apart[0].decode + apart[1].decode
    assert both.memory == max(cost.memory for cost in apart)
    assert (both.prompts, both.prompt_tokens, both.answers) == (5, 900, 29)
    assert both.seconds(2e9) == pytest.approx(both.seconds(1e9) / 2)


def test_weights_that_a_token_does_not_go_through_are_in_memory(tiny: Model) -> None:
    shape, load = Shape.of(tiny), Load(1, 100, 1, 10)
    assert shape.weight_bytes == sum(each.nbytes for each in tiny.network.parameters())
    more = estimate(replace(shape, weight_bytes=shape.weight_bytes + 10**9), [load])
    assert more.memory - estimate(shape, [load]).memory == 10**9
    assert more.decode == estimate(shape, [load]).decode


def test_a_plan_is_counted_exactly(texty: Model) -> None:
    options = TaskOptions(lengths=(400, 600), examples=2)
    request = request_of(["needle"], ["full", "snapkv", "h2o"], [16, 32], options=options)
    plan = plan_request(request, texty)
    ((task, loads),) = plan_loads(plan)
    assert task == "needle"
    expected = sorted(len(encode_example(texty, part.example)) for job in plan.jobs for part in job.parts)
    assert sorted(load.tokens for load in loads for _ in range(load.prompts)) == expected
    assert all((load.rows, load.new_tokens, load.accumulated) == (5, 24, True) for load in loads)


def test_the_speed_is_a_speed() -> None:
    speed = matrix_speed(torch.device("cpu"), torch.float32)
    assert 1e8 < speed < 1e15


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_reproduction_has_known_options_and_costs_something(path: Path) -> None:
    plan = read_reproduction(path)
    assert plan.description.strip()
    for work in works(path):
        if not work.loads:
            assert all("takes is not estimated" in reason for reason in work.uncounted.values())
            continue
        cost = estimate(plan.shape, work.loads)
        assert cost.prompts > 0
        assert cost.prefill > 0
    # Llama-3-8B has 8.03 billion weights, input embeddings included; the others are of like sizes for their names.
    if path.stem == "llama3-8b":
        shape = plan.shape
        assert shape.layer_weights + 2 * shape.output_weights == pytest.approx(8.03e9, rel=0.001)
