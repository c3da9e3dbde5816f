"""Steps as CUDA graphs, on a CPU: a stand-in for the graph writes nothing while it is captured, as CUDA's does."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cokv_bench.kvcache import RaggedCache, decode, graph, prefill
from cokv_bench.kvcache.fused import fused
from cokv_bench.kvcache.graph import GraphStep
from cokv_bench.models import Model, load_model
from cokv_bench.policies import get_policy
from tests.conftest import random_ids, save_tiny
from tests.kvcache import plain_step
from tests.kvcache.test_stream import attend

TOKENS = 90


class Recorded:
    """Of a capture, the work; a replay does it anew and, unlike Python code that runs, counts nothing."""

    steps: list[GraphStep]

    def replay(self) -> None:
        step = self.steps[-1]
        states = step._forward()
        for layer in step._cache.layers:
            layer.own -= 1
        step._states.copy_(states)


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[GraphStep]:
    """CUDA's names on a CPU; the list has the step of every capture."""
    found: list[GraphStep] = []
    original = GraphStep._capture

    def capture(self: GraphStep) -> None:
        found.append(self)
        original(self)

    @contextmanager
    def captured(_: Any, **options: Any) -> Iterator[None]:
        layers = found[-1]._cache.layers
        before = [(layer._places.clone(), layer.keys_flat.clone(), layer.values_flat.clone()) for layer in layers]
        yield
        for layer, (places, keys, values) in zip(layers, before, strict=True):
            layer._places.copy_(places)
            layer.keys_flat.copy_(keys)
            layer.values_flat.copy_(values)

    stream = SimpleNamespace(wait_stream=lambda other: None, device=torch.device("cpu"))
    monkeypatch.setattr(graph, "_stream", lambda device: stream)
    monkeypatch.setattr(GraphStep, "_capture", capture)
    monkeypatch.setattr(GraphStep, "serves", staticmethod(lambda model, cache: isinstance(cache, RaggedCache)))
    monkeypatch.setattr(Recorded, "steps", found, raising=False)
    for name, stand_in in {
        "device": lambda _: nullcontext(),
        "current_stream": lambda: stream,
        "set_stream": lambda _: None,
        "stream": lambda _: nullcontext(),
        "CUDAGraph": Recorded,
        "graph": captured,
    }.items():
        monkeypatch.setattr(graph.torch.cuda, name, stand_in)
    return found


def test_replayed_steps_answer_as_steps_do(tiny: Model, captures: list[GraphStep]) -> None:
    prompt = prefill(tiny, random_ids(TOKENS, seed=1), window=4)
    choices = [get_policy(name).select(prompt, budget) for name in ("snapkv", "ada-snapkv") for budget in (12, 30)]
    shared = decode(tiny, prompt, choices, max_new_tokens=40)
    ragged = decode(tiny, prompt, choices, max_new_tokens=40, storage="ragged")
    assert captures
    assert [answer.token_ids for answer in ragged] == [answer.token_ids for answer in shared]


def test_a_cpu_and_a_rotary_embedding_that_asks_the_host_have_no_graphs(tiny_llama: Model) -> None:
    prompt = prefill(tiny_llama, random_ids(TOKENS), window=4)
    cache = RaggedCache(prompt, [get_policy("snapkv").select(prompt, 12)])
    assert not GraphStep.serves(tiny_llama, cache)
    network = SimpleNamespace(
        parameters=lambda: [SimpleNamespace(device=torch.device("cuda", 1))],
        config=SimpleNamespace(rope_parameters={"rope_type": "dynamic"}),
    )
    verdict = SimpleNamespace(lean=True)
    model: Any = SimpleNamespace(
        network=network, device=torch.device("cuda", 1), config=network.config, verdict=verdict
    )
    served: Any = SimpleNamespace(has_kernel=True)
    assert not GraphStep.serves(model, served)
    network.config.rope_parameters["rope_type"] = "llama3"
    assert GraphStep.serves(model, served)
    verdict.lean = False
    assert not GraphStep.serves(model, served)


def test_short_answers_are_not_worth_a_graph(tiny_llama: Model, captures: list[GraphStep]) -> None:
    prompt = prefill(tiny_llama, random_ids(TOKENS), window=4)
    decode(tiny_llama, prompt, [get_policy("snapkv").select(prompt, 12)], max_new_tokens=5, storage="ragged")
    assert not captures


@torch.inference_mode()
def test_a_cache_that_grew_is_captured_anew(tiny_llama: Model, captures: list[GraphStep]) -> None:
    prompt, ids = prefill(tiny_llama, random_ids(TOKENS, seed=2), window=4), random_ids(10, seed=3)
    choice = get_policy("ada-snapkv").select(prompt, 20)
    plain, replayed = RaggedCache(prompt, [choice]), RaggedCache(prompt, [choice], reserve=4)
    step = GraphStep(tiny_llama, replayed, 1, TOKENS)
    for number, token in enumerate(ids):
        one = torch.tensor([[token]])
        expected = tiny_llama.hidden(one, TOKENS + number, plain)[:, -1]
        torch.testing.assert_close(step(one, TOKENS + number), expected, atol=1e-5, rtol=1e-5)
    assert replayed.get_seq_length() == TOKENS + 10
    # Rooms of 4, 8 and 12 tokens.
    assert len(captures) == 3


@torch.inference_mode()
def test_a_cache_that_moved_back_is_captured_anew(
    tiny_llama: Model, captures: list[GraphStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt, ids = prefill(tiny_llama, random_ids(TOKENS, seed=2), window=4), random_ids(12, seed=3)
    cache = RaggedCache(prompt, [get_policy("ada-snapkv").select(prompt, 20)], reserve=4)
    step = GraphStep(tiny_llama, cache, 1, TOKENS)
    # Every buffer has the address of an earlier one.
    monkeypatch.setattr(torch.Tensor, "data_ptr", lambda self: 0)
    step(torch.tensor([ids[:1]]), TOKENS)
    # A turn that makes the buffers grow.
    tiny_llama.hidden(torch.tensor([ids[1:11]]), TOKENS + 1, cache)
    step(torch.tensor([ids[11:]]), TOKENS + 11)
    assert len(captures) == 2


def test_a_graph_keeps_the_weights_that_it_reads(tmp_path: Path, captures: list[GraphStep]) -> None:
    model = load_model(str(save_tiny("llama", tmp_path)), device="cpu")
    prompt = prefill(model, random_ids(TOKENS, seed=1), window=4)
    read = {weights.data_ptr() for weights in model.network.parameters()}
    step = GraphStep(model, RaggedCache(prompt, [get_policy("snapkv").select(prompt, 20)]), 1, TOKENS)
    step(torch.tensor([[5]]), TOKENS)
    assert fused(model, prompt, attend, plain_step) is not None
    assert read != {weights.data_ptr() for weights in model.network.parameters()}
    assert read == {weights.data_ptr() for weights in step._weights}


def test_a_capture_that_fails_leaves_the_stream_as_it_was(
    captures: list[GraphStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a capture ends with an error, PyTorch does not go back to the stream before it."""
    current = []

    @contextmanager
    def failing(*_: Any, **options: Any) -> Iterator[None]:
        current.append(options["stream"])
        yield
        raise RuntimeError("operation failed due to a previous error during capture")

    before = graph.torch.cuda.current_stream()
    monkeypatch.setattr(graph.torch.cuda, "graph", failing)
    monkeypatch.setattr(graph.torch.cuda, "set_stream", current.append)
    with pytest.raises(RuntimeError, match="previous error"):
        graph.capture(lambda: None, torch.device("cpu"))
    assert current[-1] is before
    assert len(current) == 2
