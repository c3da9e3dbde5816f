"""Rankings that look ahead: LAQ by the published steps, the oracle as the ceiling that it is."""

from typing import Any, ClassVar

import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.kvcache import Selection, compress, decode, prefill
from cokv_bench.kvcache.reading import queries_after
from cokv_bench.models import Model
from cokv_bench.policies import get_policy, register_policy
from cokv_bench.policies.allocators import Uniform
from cokv_bench.policies.drafts import prepare
from cokv_bench.policies.names import competing, is_ceiling, label
from cokv_bench.policies.scorers.oracle import Oracle
from cokv_bench.registries import CEILING, SCORERS
from tests.conftest import random_ids
from tests.policies.test_attention import slow

TOKENS, WINDOW = 50, 4


def by_hand(model: Model, prompt: Any, evicted: Selection, tokens: int, queries: str, kernel: int) -> torch.Tensor:
    """Scores of layer 0, [kv_heads, tokens - window]."""
    (answer,) = decode(model, prompt, [evicted], max_new_tokens=tokens)
    draft = [token for token in answer.token_ids if token not in model.stop_ids]
    later = queries_after(model, prompt, draft, selection=evicted)[0]
    both = torch.cat([prompt.window_queries[0], later], dim=1)
    seen = slow(both, prompt.keys[0], model.head_dim**-0.5, WINDOW)[..., : TOKENS - WINDOW]
    received = (seen.mean(2) if queries == "mean" else seen.amax(2)).mean(1)
    reach = kernel // 2
    return torch.stack(
        [received[:, max(0, at - reach) : at + reach + 1].amax(1) for at in range(received.shape[1])], dim=1
    )


@pytest.mark.parametrize(("budget", "queries"), [(10, "mean"), (20, "max")])
def test_laq_evicts_drafts_and_scores_the_whole_prompt(tiny_llama: Model, budget: int, queries: str) -> None:
    prompt = prefill(tiny_llama, random_ids(TOKENS, seed=3), window=WINDOW)
    policy = get_policy(f"laq:draft=5:kernel=3:queries={queries}")
    first = get_policy("snapkv", kernel=3).select(prompt, budget)
    expected = by_hand(tiny_llama, prompt, first, 5, queries, 3)
    scorer = policy.scorer_at(budget)
    assert scorer is not None
    torch.testing.assert_close(scorer(prompt)[0].double(), expected, rtol=1e-3, atol=1e-5)
    assert policy.select(prompt, budget).total == budget * prompt.layers * prompt.kv_heads


def test_the_oracle_looks_at_the_full_caches_own_answer(tiny_llama: Model) -> None:
    prompt = prefill(tiny_llama, random_ids(TOKENS, seed=3), window=WINDOW)
    whole = Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)
    expected = by_hand(tiny_llama, prompt, whole, 7, "max", 11)
    scorer = get_policy("oracle:answer=7").scorer
    assert scorer is not None
    torch.testing.assert_close(scorer(prompt)[0].double(), expected, rtol=1e-3, atol=1e-5)


def test_drafts_of_all_methods_are_one_batch_and_change_nothing(tiny_llama: Model, monkeypatch: Any) -> None:
    ids = random_ids(TOKENS, seed=5)
    cells = [(get_policy(name), budget) for name in ("laq", "laq:window=2", "laq+adaptive") for budget in (12, 20)]
    alone = [policy.select(prefill(tiny_llama, ids, window=WINDOW), budget) for policy, budget in cells]
    batches: list[int] = []
    import cokv_bench.kvcache.reading as reading

    plain = reading.draft
    monkeypatch.setattr(reading, "draft", lambda *args: (batches.append(len(args[2])), plain(*args))[1])
    prompt = prefill(tiny_llama, ids, window=WINDOW)
    prepare(prompt, [*cells, (get_policy("full"), None), (get_policy("snapkv"), 12)])
    assert batches == [4]  # two budgets at two windows; the pair drafts what LAQ alone does
    assert [policy.select(prompt, budget) for policy, budget in cells] == alone
    assert batches == [4]


def test_what_looks_ahead_needs_the_model_and_the_whole_prompt(tiny_llama: Model, make_prompt: Any) -> None:
    with pytest.raises(RequestError, match="make prompts with prefill"):
        get_policy("laq").select(make_prompt(40), 10)
    ids = random_ids(40)
    with pytest.raises(RequestError, match="layer by layer"):
        get_policy("laq").select_layer(prefill(tiny_llama, ids), 3, 20)
    found = compress(tiny_llama, ids, get_policy("laq"), 20)
    chosen = get_policy("laq:observe=32").select(prefill(tiny_llama, ids, window=32).with_window(8, 32), 20)
    assert torch.equal(torch.stack([layer.lengths[0] for layer in found.cache.layers]), chosen.counts)
    with pytest.raises(RequestError, match="for a budget"):
        get_policy("laq").ranks(make_prompt(40))


@pytest.mark.parametrize("name", ["laq:draft=0", "laq:capacity=0", "oracle:answer=0", "laq:kernel=2"])
def test_options_that_mean_nothing_are_refused(name: str) -> None:
    with pytest.raises(RequestError):
        get_policy(name)


def test_ceilings_do_not_compete() -> None:
    assert is_ceiling("oracle:answer=8+cokv-search")
    assert not is_ceiling("laq+cokv")
    assert not is_ceiling("no method+at+all")
    assert competing(["full", "oracle", "snapkv", "oracle+cokv"]) == ["snapkv"]
    assert label("oracle") == "oracle (ceiling)"


def test_a_plug_ins_ceiling_is_marked(registries_restored: None) -> None:
    class Prophet(Oracle):
        ceiling: ClassVar[bool] = True

    register_policy("prophet", "what no method has (a toy)", Prophet, Uniform)
    SCORERS.add("seer", "the same", Prophet, CEILING)
    assert competing(["prophet", "seer+adaptive", "snapkv"]) == ["snapkv"]
    assert label("prophet:answer=3") == "prophet:answer=3 (ceiling)"
