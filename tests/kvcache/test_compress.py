"""Evicting layer by layer keeps what eviction after the whole prefill keeps, and never holds more."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cokv_bench import generate
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import RaggedCache, Selection, compress, decode, prefill
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.shared import SharedCache
from cokv_bench.models import Model
from cokv_bench.policies import Policy, get_policy
from cokv_bench.policies.allocators import Uniform
from cokv_bench.policies.registry import POLICIES
from tests.conftest import random_ids

TOKENS = 90


def static(model: Model) -> Callable[[int], torch.Tensor]:
    """Unequal budgets for any total: head h of layer l gets a share of l + h + 1, some more than the prompt holds."""
    shares = torch.arange(model.layers)[:, None] * 2.0 + torch.arange(model.kv_heads) + 1

    def budgets(budget: int) -> torch.Tensor:
        whole = (shares / shares.sum() * budget * shares.numel()).floor().long()
        whole[0, 0] += budget * shares.numel() - int(whole.sum())
        return whole

    return budgets


def method(name: str, model: Model) -> Policy:
    files = {"headkv", "cokv", "cokv-search"}
    return get_policy(name, budgets=static(model)) if name in files else get_policy(name)


def answer(model: Model, cache: RaggedCache, ids: list[int], logits: torch.Tensor, new: int) -> list[list[int]]:
    """What transformers' own generate makes of a cache."""
    rows = len(cache.layers[0].lengths)
    start = torch.tensor([[*ids, int(logits.argmax())]]).expand(rows, -1)
    # Without a mask, generate takes the tiny models' token 0 for padding wherever it stands.
    made = model.network.generate(
        start, attention_mask=torch.ones_like(start), past_key_values=cache, max_new_tokens=new, do_sample=False
    )
    return made[:, len(ids) :].tolist()


# Their layers share by what all of them look at.
WHOLE = {"cake", "lava"}
RANKINGS = (
    "damage",
    "obcache",
    "obcache:by=key",
    "tova",
    "defensive",
    "lava+adaptive",
    "cake+pyramid",
    "critical",
    "fading",
)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_layers_that_share_are_not_evicted_one_by_one(tiny_llama: Model, name: str) -> None:
    with pytest.raises(RequestError, match="cannot evict layer by layer"):
        get_policy(name).select_layer(prefill(tiny_llama, random_ids(TOKENS)), tiny_llama.layers, 20)


@pytest.mark.parametrize("name", [*sorted(set(POLICIES) - WHOLE), *RANKINGS])
@pytest.mark.parametrize("chunk", [2048, 17])
def test_each_method_keeps_the_same_and_answers_the_same(tiny: Model, name: str, chunk: int) -> None:
    ids = random_ids(TOKENS, seed=5)
    policy = method(name, tiny).within(4)
    prompt = prefill(tiny, ids, window=policy.sees(4), chunk=chunk)
    choice = policy.select(prompt, 20)
    expected = decode(tiny, prompt, [choice], max_new_tokens=9)[0].token_ids
    found = compress(tiny, ids, policy, 20, window=4, chunk=chunk, reserve=3)
    assert torch.equal(found.logits, prompt.logits)
    assert found.tokens == TOKENS
    for layer in range(tiny.layers):
        assert torch.equal(found.cache.layers[layer].lengths[0], choice.counts[layer])
        kept = torch.cat([prompt.keys[layer][head][choice.mask(layer)[head]] for head in range(tiny.kv_heads)])
        held = torch.cat(
            [
                found.cache.layers[layer].keys_flat[start : start + int(length)]
                for start, length in zip(
                    segments(found.cache.layers[layer]), found.cache.layers[layer].lengths.flatten(), strict=True
                )
            ]
        )
        assert torch.equal(held, kept)
    assert found.cache.kept_bytes == choice.total * tiny.bytes_per_token
    assert answer(tiny, found.cache, ids, found.logits, 8)[0] == expected


@pytest.mark.parametrize(
    ("name", "window", "observed"),
    [("snapkv", 8, 8), ("lava", 32, 32), ("tova", 1, 1), ("fading", 4, 32), ("laq", 8, 32), ("tova:window=3", 3, 3)],
)
def test_a_ranking_has_its_published_window_and_queries(
    tiny_llama: Model, name: str, window: int, observed: int
) -> None:
    ids, budget = random_ids(80, seed=6), 40
    prompt = prefill(tiny_llama, ids, window=max(window, observed))
    choice = get_policy(name, window=window, observe=observed).select(prompt, budget)
    found = compress(tiny_llama, ids, get_policy(name), budget)
    counts = torch.stack([layer.lengths[0] for layer in found.cache.layers])
    assert torch.equal(counts, choice.counts)
    expected = decode(tiny_llama, prompt, [choice], max_new_tokens=6)[0].token_ids
    assert generate(tiny_llama, ids, name, budget, max_new_tokens=6).token_ids == expected


def segments(layer: Any) -> list[int]:
    """First slots, from the lengths and the room alone."""
    sizes = (layer.lengths.flatten() + layer.room).tolist()
    return [sum(sizes[:index]) for index in range(len(sizes))]


def test_generate_grows_the_room_as_it_goes(tiny_llama: Model) -> None:
    ids = random_ids(TOKENS, seed=2)
    prompt = prefill(tiny_llama, ids, window=4)
    choice = get_policy("ada-snapkv").select(prompt, 30)
    answers = [
        answer(tiny_llama, RaggedCache(prompt, [choice], reserve=reserve), ids, prompt.logits, 12)
        for reserve in (0, 1, 5, 64)
    ]
    assert answers[0] == answers[1] == answers[2] == answers[3]


def test_generate_with_all_kept_is_plain_generate(tiny: Model) -> None:
    ids = random_ids(TOKENS, seed=3)
    found = compress(tiny, ids, get_policy("full"), None)
    plain = tiny.network.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, TOKENS:].tolist()
    assert answer(tiny, found.cache, ids, found.logits, 11)[0] == plain


def test_rows_with_selections_of_their_own_generate_as_one_batch(tiny_llama: Model) -> None:
    ids = random_ids(TOKENS, seed=4)
    prompt = prefill(tiny_llama, ids, window=4)
    choices = [get_policy("snapkv").select(prompt, 12), get_policy("ada-snapkv").select(prompt, 25)]
    choices.append(Selection.full(prompt.layers, prompt.kv_heads, TOKENS))
    together = answer(tiny_llama, RaggedCache(prompt, choices, reserve=2), ids, prompt.logits, 7)
    alone = [answer(tiny_llama, RaggedCache(prompt, [each]), ids, prompt.logits, 7)[0] for each in choices]
    assert together == alone


def test_several_tokens_at_once_are_read_causally(tiny_llama: Model) -> None:
    """A user's next message: the same hidden states as token by token."""
    ids, more = random_ids(TOKENS, seed=6), torch.tensor([random_ids(9, seed=7)])
    prompt = prefill(tiny_llama, ids, window=4)
    choice = get_policy("ada-snapkv").select(prompt, 20)
    at_once, stepwise = RaggedCache(prompt, [choice], reserve=4), RaggedCache(prompt, [choice], reserve=4)
    with torch.inference_mode():
        whole = tiny_llama.hidden(more, TOKENS, at_once)
        steps = [tiny_llama.hidden(more[:, i : i + 1], TOKENS + i, stepwise) for i in range(more.shape[1])]
    torch.testing.assert_close(whole, torch.cat(steps, dim=1), atol=2e-5, rtol=2e-5)


def test_tokens_that_are_taken_back_leave_no_trace(tiny_llama: Model) -> None:
    ids, more = random_ids(TOKENS, seed=6), torch.tensor([random_ids(9, seed=7)])
    found = compress(tiny_llama, ids, get_policy("ada-snapkv"), 20, reserve=2)
    with torch.no_grad():
        expected = [tiny_llama.hidden(more[:, :1], TOKENS, found.cache)]
        expected.append(tiny_llama.hidden(more[:, 1:2], TOKENS + 1, found.cache))
        found.cache.crop(-1)
        tiny_llama.hidden(more[:, 5:], TOKENS + 1, found.cache)
        # What the capture of a CUDA graph does: tokens are counted, and nothing is written or moved on the device.
        found.cache.advance(3)
        found.cache.crop(-7)
        again = [tiny_llama.hidden(more[:, 1:2], TOKENS + 1, found.cache)]
        found.cache.crop(-100)
        assert found.cache.get_seq_length() == TOKENS
        again.insert(0, tiny_llama.hidden(more[:, :1], TOKENS, found.cache))
    assert torch.equal(torch.stack(again), torch.stack(expected))


def test_rows_are_copies(tiny_llama: Model) -> None:
    ids = random_ids(TOKENS, seed=8)
    one = compress(tiny_llama, ids, get_policy("snapkv"), 16, reserve=0)
    three = compress(tiny_llama, ids, get_policy("snapkv"), 16, reserve=0, rows=3)
    assert three.cache.kept_bytes == three.cache.nbytes == 3 * one.cache.kept_bytes
    assert len({tuple(row) for row in answer(tiny_llama, three.cache, ids, three.logits, 6)}) == 1


def test_one_layer_at_a_time_is_whole(tiny_llama: Model) -> None:
    """While a layer is looked at, no other layer's keys of full length are alive."""

    class Watching(Policy):
        def select_layer(self, part: Prompt, layers: int, budget: int | None) -> torch.Tensor:
            gc.collect()
            shape = part.keys[0].shape
            alive.append(sum(torch.is_tensor(each) and each.shape == shape for each in gc.get_objects()))
            return super().select_layer(part, layers, budget)

    alive: list[int] = []
    snapkv = get_policy("snapkv")
    compress(tiny_llama, random_ids(TOKENS + 1), Watching("watching", "", snapkv.scorer, snapkv.allocator), 16)
    # Keys and values.
    assert alive == [2] * tiny_llama.layers


def test_the_cache_goes_on_outside_inference_mode(tiny_llama: Model) -> None:
    found = compress(tiny_llama, random_ids(TOKENS), get_policy("snapkv"), 16)
    assert not found.logits.is_inference()
    assert not any(layer.keys_flat.is_inference() for layer in found.cache.layers)


def test_bad_requests_are_refused(tiny_llama: Model) -> None:
    ids = random_ids(TOKENS)
    with pytest.raises(RequestError, match="at least one row"):
        compress(tiny_llama, ids, get_policy("snapkv"), 16, rows=0)
    with pytest.raises(RequestError, match="observation window"):
        compress(tiny_llama, ids, get_policy("snapkv"), 8)
    with pytest.raises(RequestError, match="observation window must be at least 1 token, not 0"):
        compress(tiny_llama, ids, get_policy("snapkv"), 16, window=0)
    with pytest.raises(RequestError, match=r"at least one row, not 1\.5"):
        compress(tiny_llama, ids, get_policy("snapkv"), 16, rows=1.5)
    with pytest.raises(RequestError, match="shape"):
        compress(tiny_llama, ids, get_policy("cokv", budgets=lambda budget: torch.full((9, 9), budget)), 16)


@pytest.mark.parametrize("kind", [RaggedCache, SharedCache])
def test_a_cache_takes_selections_of_its_prompt_alone(tiny_llama: Model, kind: Any) -> None:
    prompt, other = (prefill(tiny_llama, random_ids(count)) for count in (TOKENS, TOKENS - 20))
    for choices in ([get_policy("snapkv").select(other, 16)], []):
        with pytest.raises(RequestError, match=r"does not fit a prompt|There is no selection"):
            kind(prompt, choices, 4)


def test_a_policy_that_has_to_see_all_layers_keeps_what_it_selects(tiny_llama: Model) -> None:
    class Global:
        def __call__(self, prompt: Any, scores: Any, budget: int) -> torch.Tensor:
            even = Uniform()(prompt, scores, budget)
            return even + torch.tensor([[2, 2], [0, 0], [-2, -2]])

    ids, policy = random_ids(TOKENS), Policy("global", "", get_policy("snapkv").scorer, Global())
    prompt = prefill(tiny_llama, ids)
    with pytest.raises(RequestError, match="all layers at once"):
        policy.select_layer(prompt, tiny_llama.layers, 16)
    found = compress(tiny_llama, ids, policy, 16, rows=2)
    assert torch.equal(
        torch.stack([layer.lengths[1] for layer in found.cache.layers]), policy.select(prompt, 16).counts
    )
    assert torch.equal(found.logits, prompt.logits)


@pytest.mark.parametrize("name", ["snapkv:observe=16", "snapkv:window=12", "laq:observe=16", "cake:window=12"])
def test_a_policy_has_its_own_window_and_observes_more_than_it_keeps(tiny_llama: Model, name: str) -> None:
    ids, policy = random_ids(TOKENS), get_policy(name)
    found = compress(tiny_llama, ids, policy, 20, window=4)
    prompt = prefill(tiny_llama, ids, window=16)
    chosen = policy.within(4).select(prompt, 20)
    assert torch.equal(torch.stack([layer.lengths[0] for layer in found.cache.layers]), chosen.counts)
