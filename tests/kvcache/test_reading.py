"""Reading on after a prompt: queries, drafts and moments against the plain model."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from cokv_bench.kvcache import Selection, decode, prefill
from cokv_bench.kvcache.reading import draft, listen, queries_after
from cokv_bench.models import Model
from cokv_bench.policies import get_policy
from cokv_bench.policies.drafts import prepare
from tests.conftest import random_ids

TOKENS, WINDOW = 60, 4


def whole(prompt: Any) -> Selection:
    return Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)


def test_queries_of_what_follows_are_those_of_one_prefill_of_both(tiny: Model) -> None:
    ids, more = random_ids(TOKENS), random_ids(9, seed=4)
    together = prefill(tiny, [*ids, *more], window=9)
    found = queries_after(tiny, prefill(tiny, ids), more)
    for one, other in zip(found, together.window_queries, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_what_is_read_in_chunks_asks_the_same(tiny_llama: Model) -> None:
    prompt, more = prefill(tiny_llama, random_ids(TOKENS)), random_ids(20, seed=1)
    keep = get_policy("snapkv").select(prompt, 20)
    heard: list[torch.Tensor] = []

    def hear(layer: int, queries: torch.Tensor, keys: torch.Tensor) -> None:
        if layer == 1:
            heard.append(queries[0])
            assert keys.shape[2] == sum(part.shape[1] for part in heard)

    listen(tiny_llama, prompt, more, hear, selection=keep, chunk=7)
    assert [part.shape[1] for part in heard] == [7, 7, 6]
    at_once = queries_after(tiny_llama, prompt, more, selection=keep)[1]
    torch.testing.assert_close(torch.cat(heard, dim=1), at_once, rtol=1e-3, atol=1e-4)


def test_a_draft_is_what_decoding_writes_and_its_queries_are_those_of_its_tokens(tiny: Model) -> None:
    prompt = prefill(tiny, random_ids(TOKENS, seed=2))
    choices = [whole(prompt), *(get_policy("snapkv").select(prompt, budget) for budget in (12, 30))]
    drafts = draft(tiny, prompt, choices, 6)
    for found, choice, answer in zip(drafts, choices, decode(tiny, prompt, choices, max_new_tokens=6), strict=True):
        assert found.token_ids == [token for token in answer.token_ids if token not in tiny.stop_ids]
        if not found.token_ids:
            continue
        alone = queries_after(tiny, prompt, found.token_ids, selection=choice)
        for one, other in zip(found.queries, alone, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_draft_follows_a_question_whose_queries_count(tiny_llama: Model) -> None:
    ids, question = random_ids(TOKENS), random_ids(5, seed=7)
    prompt = prefill(tiny_llama, ids, question=question)
    assert prompt.question == tuple(question)
    (found,) = draft(tiny_llama, prompt, [whole(prompt)], 4, question)
    plain = tiny_llama.network.generate(torch.tensor([[*ids, *question]]), max_new_tokens=4, do_sample=False)
    assert found.token_ids == plain[0, TOKENS + 5 :].tolist()
    assert found.queries[0].shape[1] == 5 + 4


def test_a_draft_ends_before_a_stop_token_and_within_the_context(tiny_llama: Model, monkeypatch: Any) -> None:
    prompt = prefill(tiny_llama, random_ids(TOKENS))
    (long,) = draft(tiny_llama, prompt, [whole(prompt)], 8)
    stop = long.token_ids[3]
    first = long.token_ids.index(stop)
    monkeypatch.setitem(tiny_llama.__dict__, "stop_ids", frozenset([stop]))
    (short,) = draft(tiny_llama, prompt, [whole(prompt)], 8)
    assert short.token_ids == long.token_ids[:first]
    assert all(layer.shape[1] == first for layer in short.queries)
    end = prefill(tiny_llama, random_ids(509))
    (last,) = draft(tiny_llama, end, [whole(end)], 8)
    assert len(last.token_ids) <= 3


def test_a_draft_is_over_when_all_of_its_rows_are(tiny_llama: Model, monkeypatch: Any) -> None:
    prompt = prefill(tiny_llama, random_ids(TOKENS))
    (long,) = draft(tiny_llama, prompt, [whole(prompt)], 6)
    first = long.token_ids.index(long.token_ids[2])
    monkeypatch.setitem(tiny_llama.__dict__, "stop_ids", frozenset({long.token_ids[2]}))
    read: list[int] = []
    hidden = Model.hidden
    monkeypatch.setattr(Model, "hidden", lambda self, *args: (read.append(1), hidden(self, *args))[1])
    (short,) = draft(tiny_llama, prompt, [whole(prompt)], 500)
    assert short.token_ids == long.token_ids[:first]
    torch.testing.assert_close(short.queries[1], long.queries[1][:, :first])
    assert len(read) == first > 0


@pytest.mark.parametrize("chunk", [7, 2048])
def test_moments_are_those_of_the_queries_before_rotary(tiny: Model, chunk: int) -> None:
    found: dict[int, torch.Tensor] = {}
    hooks = []
    for index, layer in enumerate(tiny.network.get_decoder().layers):
        attention = layer.self_attn
        module = getattr(attention, "q_norm", None) or getattr(attention, "q_proj", None) or attention.qkv_proj

        def keep(_: Any, __: Any, out: torch.Tensor, index: int = index) -> None:
            flat = out[0].reshape(out.shape[1], -1)[:, : tiny.heads * tiny.head_dim]
            found[index] = flat.view(out.shape[1], tiny.heads, tiny.head_dim).transpose(0, 1)

        hooks.append(module.register_forward_hook(keep))
    ids = random_ids(TOKENS)
    prefill(tiny, ids)
    for hook in hooks:
        hook.remove()
    moments = prefill(tiny, ids, query_moments=True, chunk=chunk).query_moments
    assert moments is not None
    for index, of_layer in enumerate(moments):
        queries = found[index][:, 4:].double()
        centred = queries - queries.mean(1, keepdim=True)
        torch.testing.assert_close(of_layer.mean.double(), queries.mean(1), rtol=1e-3, atol=1e-4)
        expected = centred.transpose(1, 2) @ centred / queries.shape[1]
        torch.testing.assert_close(of_layer.covariance.double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("why", ["nothing to say", "no room"])
def test_drafts_without_a_token_ask_nothing_in_any_row(tiny_llama: Model, why: str) -> None:
    prompt = prefill(tiny_llama, random_ids(TOKENS), window=WINDOW)
    if why == "no room":
        prompt = replace(prompt, read_again_after=prompt.tokens)
    else:
        ends = torch.zeros_like(prompt.logits)
        ends[min(tiny_llama.stop_ids)] = 1
        prompt = replace(prompt, logits=ends)
    for found in draft(tiny_llama, prompt, [whole(prompt)] * 3, 5):
        assert found.token_ids == []
        assert [each.shape for each in found.queries] == [(tiny_llama.heads, 0, tiny_llama.head_dim)] * prompt.layers
    # What ranks by drafts goes by the window's queries then, at all budgets of a grid.
    cells = [(get_policy("laq:recent=4"), budget) for budget in (12, 20)]
    prepare(prompt, cells)
    for policy, budget in cells:
        assert policy.select(prompt, budget) == get_policy("snapkv").select(prompt, budget)


def test_a_prompt_knows_the_factor_of_its_dot_products(tiny: Model) -> None:
    assert prefill(tiny, random_ids(20)).factor == pytest.approx(tiny.head_dim**-0.5)
