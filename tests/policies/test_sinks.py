"""Protected first tokens, and queries observed beyond the window: for every method."""

from typing import Any

import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.kvcache import compress, prefill
from cokv_bench.models import Model
from cokv_bench.policies import get_policy
from cokv_bench.policies.attention import MOST_QUERIES
from cokv_bench.registries import SCORERS
from tests.conftest import random_ids

NAMES = ["snapkv", "pyramidkv", "ada-snapkv", "ada-pyramid", "random", "h2o", "streaming-llm"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sinks", [1, 5])
def test_every_head_keeps_the_first_tokens_within_the_same_total(make_prompt: Any, name: str, sinks: int) -> None:
    prompt = make_prompt(60, sums=True, seed=2)
    choice = get_policy(name, sinks=sinks).select(prompt, 14)
    assert choice.kept[:, :, :sinks].all()
    assert choice.total == 14 * prompt.layers * prompt.kv_heads


def test_what_is_not_protected_is_ranked_as_before(make_prompt: Any) -> None:
    prompt = make_prompt(60, seed=3)
    plain, protected = (get_policy("snapkv", kernel=1, **options) for options in ({}, {"sinks": 3}))
    ranks = plain.ranks(prompt)[:, :, 3:]
    assert torch.equal(protected.ranks(prompt)[:, :, 3:].argsort(2), ranks.argsort(2))
    assert torch.equal(protected.ranks(prompt)[:, :, :3].sort(2).values, torch.arange(3).expand(2, 2, 3).int())


def test_head_budgets_lose_what_is_protected_before_they_are_shared_out(make_prompt: Any) -> None:
    prompt = make_prompt(80, window=4)
    table = torch.tensor([[6, 30], [10, 18]])
    choice = get_policy("cokv", budgets=lambda budget: table.numpy(), sinks=4).select(prompt, 16)
    # Beyond the window and the protected tokens they ask for 0, 22, 2 and 10, of 32.
    assert (choice.counts - 8).flatten().tolist() == [0, 21, 2, 9]
    assert choice.total == 64


def test_layer_by_layer_it_is_the_same(tiny_llama: Model) -> None:
    ids, policy = random_ids(70), get_policy("ada-snapkv:sinks=3")
    found = compress(tiny_llama, ids, policy, 16, window=4)
    chosen = policy.select(prefill(tiny_llama, ids, window=4), 16)
    assert torch.equal(torch.stack([layer.lengths[0] for layer in found.cache.layers]), chosen.counts)


def test_what_leaves_no_room_or_means_nothing_is_refused(make_prompt: Any) -> None:
    with pytest.raises(RequestError, match="the 4 protected first tokens"):
        get_policy("snapkv:sinks=4").select(make_prompt(60, window=4), 8)
    # A smaller window would help here, and where the protected tokens fill the budget nothing but fewer of them.
    with pytest.raises(RequestError, match="at least 25, protect fewer or use a smaller window"):
        get_policy("snapkv:sinks=20").check_budget(24, 4)
    for sinks in (63, 64, 100):
        with pytest.raises(
            RequestError, match=f"beyond the {sinks} protected first tokens and a window, .* protect fewer"
        ):
            get_policy("snapkv", sinks=sinks).check_budget(64, 1)
    assert get_policy("snapkv", sinks=62).check_budget(64, 1) == 64
    with pytest.raises(RequestError, match="0 or more"):
        get_policy("snapkv", sinks=-1)
    with pytest.raises(RequestError, match="takes no options"):
        get_policy("full:sinks=2")


def test_more_queries_may_rank_than_the_window_keeps(tiny_llama: Model) -> None:
    prompt = prefill(tiny_llama, random_ids(70), window=16)
    policy = get_policy("snapkv:window=4:observe=16:kernel=1")
    wide = get_policy("snapkv:window=16:kernel=1")
    assert policy.scorer is not None
    assert wide.scorer is not None
    found, reference = policy.scorer(policy.narrowed(prompt)), wide.scorer(prompt)
    for one, other in zip(found, reference, strict=True):
        assert one.shape[1] == 70 - 4
        torch.testing.assert_close(one[:, : 70 - 16], other)
    choice = policy.select(prompt, 12)
    assert choice.total == 12 * prompt.layers * prompt.kv_heads
    assert choice.kept[:, :, -4:].all()
    assert not choice.kept[:, :, -16:].all()
    with pytest.raises(RequestError, match="window=32"):
        get_policy("snapkv:window=4:observe=32").select(prompt, 12)
    with pytest.raises(RequestError, match="At least one"):
        get_policy("snapkv:observe=0")


@pytest.mark.parametrize("name", ["snapkv:observe={}", "dapq:tokens={}", "laq:draft={}", "oracle:answer={}"])
def test_no_more_queries_are_looked_at_than_memory_holds(name: str) -> None:
    assert get_policy(name.format(MOST_QUERIES)).scorer is not None
    with pytest.raises(RequestError, match=f"at most {MOST_QUERIES}, not 99999"):
        get_policy(name.format(99999))


@pytest.mark.parametrize("options", ["window=4:observe=12", "window=12:observe=4", "window=4:observe=12:sinks=3"])
def test_every_ranking_takes_any_window_and_any_queries(texty: Model, options: str) -> None:
    prompt = prefill(texty, random_ids(60), window=16, query_moments=True)
    for ranking in SCORERS:
        for split in ("uniform", "adaptive", "cake"):
            policy = get_policy(f"{ranking}:{options}+{split}")
            choice = policy.select(prompt, 20)
            assert choice.total == 20 * prompt.layers * prompt.kv_heads, (ranking, split)
            assert choice.kept[:, :, -(policy.window or 0) :].all()


@pytest.mark.parametrize("ranking", ["expected", "kvzip", "sinks-recent", "snapkv", "laq", "critical"])
def test_a_head_that_is_given_nothing_keeps_the_first_tokens_that_were_asked_for(texty: Model, ranking: str) -> None:
    prompt = prefill(texty, random_ids(60), window=8, query_moments=True)
    table = torch.full((texty.layers, texty.kv_heads), 20)
    table[0, 0], table[0, 1] = 12, 28
    for name in (f"{ranking}:sinks=4+static", f"{ranking}+static"):
        asked = {} if "sinks" in name else {"sinks": 4}
        choice = get_policy(name, budgets=lambda _: table.numpy(), **asked).select(prompt, 20)
        assert choice.counts[0, 0] == 12
        assert choice.kept[:, :, :4].all()
        assert choice.total == 20 * prompt.layers * prompt.kv_heads


@pytest.mark.parametrize("ranking", ["expected", "kvzip", "sinks-recent", "window"])
def test_two_classes_protect_as_many_first_tokens_as_they_are_told(ranking: str) -> None:
    for name, sinks in ((ranking, 4), (f"{ranking}:sinks=8", 8), (f"{ranking}:sinks=0", 0)):
        assert get_policy(f"{name}+two-class").sinks == sinks
    assert get_policy(f"{ranking}+two-class", sinks=6).sinks == 6


def test_where_all_heads_keep_as_many_first_tokens_of_a_ranking_need_no_room_of_their_own(make_prompt: Any) -> None:
    assert get_policy("streaming-llm:sinks=32").select(make_prompt(60), 12).kept[:, :, :8].all()


def test_a_draft_sees_the_first_tokens_that_every_head_keeps(tiny_llama: Model) -> None:
    prompt = prefill(tiny_llama, random_ids(60), window=8)
    for name in ("laq:sinks=4", "laq+two-class"):
        scorer: Any = get_policy(name).scorer_at(24)
        if name == "laq+two-class":
            assert scorer.sinks == 4
        (wanted,) = scorer.drafts(prompt)
        assert wanted.selection.kept[:, :, :4].all()
        assert wanted.selection.total == 24 * prompt.layers * prompt.kv_heads
