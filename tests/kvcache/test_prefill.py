"""Prefill against the plain model: same cache, same logits, whatever the chunks."""

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cokv_bench import generate
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import batching, prefill
from cokv_bench.kvcache.received import received_attention
from cokv_bench.models import Model
from tests.conftest import random_ids


@pytest.mark.parametrize("chunk", [2048, 40, 7, 1])
def test_cache_and_logits_equal_the_plain_model(tiny: Model, chunk: int) -> None:
    ids = random_ids(61)
    prompt = prefill(tiny, ids, window=8, chunk=chunk)
    with torch.inference_mode():
        plain = tiny.network(torch.tensor([ids]), use_cache=True)
    torch.testing.assert_close(prompt.logits, plain.logits[0, -1].float(), atol=2e-4, rtol=2e-4)
    for layer in range(tiny.layers):
        assert prompt.keys[layer].shape == (tiny.kv_heads, 61, tiny.head_dim)
        held = plain.past_key_values.layers[layer]
        torch.testing.assert_close(prompt.keys[layer], held.keys[0], atol=2e-4, rtol=2e-4)
        torch.testing.assert_close(prompt.values[layer], held.values[0], atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("chunk", [2048, 25, 3])
def test_signals_equal_the_attention_weights_of_the_plain_model(tiny: Model, chunk: int) -> None:
    """Eager attention of transformers shows its weights; ours must be the same ones summed."""
    ids = random_ids(50, seed=1)
    prompt = prefill(tiny, ids, window=8, chunk=chunk)
    tiny.network.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            weights = tiny.network(torch.tensor([ids]), output_attentions=True).attentions
    finally:
        tiny.network.set_attn_implementation("cokv_bench")
    group = tiny.heads // tiny.kv_heads
    assert prompt.accumulated_attention is not None
    for layer in range(tiny.layers):
        received = weights[layer][0].sum(1).view(tiny.kv_heads, group, 50).mean(1)
        torch.testing.assert_close(prompt.accumulated_attention[layer], received, atol=5e-4, rtol=5e-4)
        queries, keys = prompt.window_queries[layer], prompt.keys[layer].repeat_interleave(group, 0)
        scores = queries @ keys.transpose(1, 2) / tiny.head_dim**0.5
        last = scores[:, -1].softmax(-1)
        torch.testing.assert_close(last, weights[layer][0, :, -1], atol=5e-4, rtol=5e-4)


def test_asking_for_accumulated_attention_changes_nothing_else(tiny_llama: Model) -> None:
    ids = random_ids(40)
    with_sums = prefill(tiny_llama, ids, accumulated_attention=True)
    without = prefill(tiny_llama, ids, accumulated_attention=False)
    assert without.accumulated_attention is None
    assert torch.equal(with_sums.logits, without.logits)
    assert all(torch.equal(a, b) for a, b in zip(with_sums.keys, without.keys, strict=True))


def test_received_attention_does_not_depend_on_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    query, keys = torch.randn(4, 9, 8, generator=generator), torch.randn(2, 30, 8, generator=generator)
    whole = received_attention(query, keys, 0.3)
    monkeypatch.setattr(importlib.import_module("cokv_bench.kvcache.received"), "_BLOCK_BYTES", 4 * 4 * 30 * 2)
    torch.testing.assert_close(received_attention(query, keys, 0.3), whole)
    # Each query gives away attention of exactly 1.
    torch.testing.assert_close(whole.sum(-1), torch.full((2,), 9.0))


def test_a_short_prompt_has_fewer_window_queries(tiny_llama: Model) -> None:
    prompt = prefill(tiny_llama, [5, 6, 7], window=8)
    assert prompt.window_queries[0].shape == (tiny_llama.heads, 3, tiny_llama.head_dim)


@pytest.mark.parametrize(
    ("ids", "window", "words"),
    [
        ([], 8, "empty"),
        ([5] * 512, 8, "512 tokens"),
        ([5, 120], 8, "0 to 119"),
        ([5, -1], 8, "0 to 119"),
        ([5, 6], 0, "1 or more, not 0"),
        ([5, 6], 8.5, "a whole number of tokens, 1 or more, not 8.5"),
        ([5, 6.5], 8, "whole numbers, and these are"),
        (["five"], 8, r"not \['five'\]"),
        (torch.full((2, 9), 5), 8, r"shape \[2, 9\]; give one row"),
    ],
)
def test_bad_prompts_are_refused(tiny_llama: Model, ids: Any, window: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        prefill(tiny_llama, ids, window=window)


@pytest.mark.parametrize("options", [{"chunk": 0}, {"chunk": -1}, {"chunk": 1.5}, {"room": 0.5}])
def test_bad_counts_are_refused(tiny_llama: Model, options: Any) -> None:
    with pytest.raises(RequestError, match="a whole number of tokens"):
        prefill(tiny_llama, [5, 6], **options)


def test_half_a_token_is_not_waited_for(tiny_llama: Model) -> None:
    """A countdown from 1.5 never meets its end."""
    with pytest.raises(RequestError, match=r"1 or more, not 1\.5"):
        generate(tiny_llama, [5, 6], "full", None, max_new_tokens=1.5)


def test_a_prompt_is_read_at_once_where_its_activations_fit(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prefill(tiny_llama, random_ids(20))  # Checks the model, which then is run layer by layer.
    assert batching.tokens_at_a_time(tiny_llama, 9000) == 9000
    bytes_a_token = 4 * (3 * 64 + 8 * 48)
    monkeypatch.setattr(batching, "_CHUNK_BYTES", 4500 * bytes_a_token)
    # Pieces of one size: none is a few tokens only.
    assert batching.tokens_at_a_time(tiny_llama, 9001) == 3001
    monkeypatch.setattr(batching, "_CHUNK_BYTES", 1)
    assert batching.tokens_at_a_time(tiny_llama, 9000) == 1800
    assert batching.tokens_at_a_time(tiny_llama, 100) == 100


def test_a_gpu_reads_wide_numbers_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "free_memory", lambda device: 40 * 2**30)
    model: Any = SimpleNamespace(
        device=torch.device("cuda", 0),
        network=SimpleNamespace(dtype=torch.float32),
        verdict=SimpleNamespace(lean=True),
        inner_width=14336,
        config=SimpleNamespace(hidden_size=4096),
    )
    assert batching.tokens_at_a_time(model, 32000) == 2000
    model.network.dtype = torch.bfloat16
    assert batching.tokens_at_a_time(model, 32000) == 32000
