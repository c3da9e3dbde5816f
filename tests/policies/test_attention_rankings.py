"""Rankings by the window's attention in other ways than its mean, against loops in float64."""

import math

import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.kvcache import prefill
from cokv_bench.policies import get_policy
from cokv_bench.policies.scorers.cake import MeanAndVariance, window_moments
from cokv_bench.policies.scorers.fading import FadingQueries
from cokv_bench.policies.scorers.laq import LookaheadQueries
from cokv_bench.policies.scorers.lava import AttentionTimesValue
from cokv_bench.policies.scorers.tova import LastQuery
from cokv_bench.runs.methods import MethodSettings
from tests.conftest import random_ids
from tests.policies import slowly


def close(found, expected, rtol=1e-4):
    torch.testing.assert_close(found.double(), torch.tensor(expected, dtype=torch.float64), rtol=rtol, atol=1e-7)


def weights_of(prompt, layer):
    """[heads, queries, tokens - window], and the heads of a group."""
    weights, _ = slowly.attention(prompt.window_queries[layer], prompt.keys[layer])
    return weights[..., : prompt.tokens - prompt.window], weights.shape[0] // prompt.kv_heads


@pytest.mark.parametrize("shape", slowly.SHAPES)
@pytest.mark.parametrize(("kernel", "pooling"), [(7, "max"), (3, "avg")])
def test_lava_is_attention_times_the_largest_value(make_prompt, shape, kernel, pooling):
    prompt = slowly.prompt_of(make_prompt, **shape, seed=1)
    before = prompt.tokens - prompt.window
    for layer, found in enumerate(AttentionTimesValue(kernel, pooling)(prompt)):
        weights, group = weights_of(prompt, layer)
        expected = []
        for kv_head in range(prompt.kv_heads):
            largest = max(sum(abs(x) for x in prompt.values[layer][kv_head, p].tolist()) for p in range(before))
            heads = [
                slowly.pooled(weights[head].mean(0).tolist(), kernel, pooling)
                for head in range(kv_head * group, (kv_head + 1) * group)
            ]
            expected.append([max(row[p] for row in heads) * largest for p in range(before)])
        close(found, expected)


def test_the_factor_of_lava_changes_no_order_within_a_head(make_prompt):
    prompt = make_prompt(40, group=1)
    same = get_policy("window").select(prompt, 12)
    assert get_policy("lava+uniform").select(prompt, 12) == same
    prompt.values[0][0] *= 100
    prompt.memo.clear()
    assert get_policy("lava+uniform").select(prompt, 12) == same
    counts = get_policy("lava+adaptive").select(prompt, 12).counts
    assert counts[0, 0] > counts[0, 1]


@pytest.mark.parametrize("shape", slowly.SHAPES)
@pytest.mark.parametrize("gamma", [200.0, 0.0])
def test_cake_is_mean_and_variance(make_prompt, shape, gamma):
    prompt = slowly.prompt_of(make_prompt, **shape, seed=2)
    before = prompt.tokens - prompt.window
    for layer, found in enumerate(MeanAndVariance(gamma)(prompt)):
        weights, group = weights_of(prompt, layer)
        queries = weights.shape[1]
        expected, spread, entropy = [], 0.0, 0.0
        for kv_head in range(prompt.kv_heads):
            row = [0.0] * before
            for head in range(kv_head * group, (kv_head + 1) * group):
                for p in range(before):
                    seen = weights[head, :, p].tolist()
                    mean = sum(seen) / queries
                    variance = sum((x - mean) ** 2 for x in seen) / (queries - 1) if queries > 1 else 0.0
                    row[p] += (mean + gamma * variance) / group
                    if p < prompt.tokens - queries:
                        spread += variance
                        entropy -= sum(x * math.log(x + 1e-10) for x in seen)
            expected.append(slowly.pooled(row, 5, "avg"))
        close(found, expected)
        moments = window_moments(prompt)[layer]
        assert float(moments.spread) == pytest.approx(spread, rel=1e-4)
        assert float(moments.entropy) == pytest.approx(entropy, rel=1e-4)


def test_the_moments_of_cake_are_read_once(make_prompt):
    prompt = make_prompt(40)
    first = get_policy("cake").select(prompt, 12)
    prompt.window_queries = None  # whoever looked again would fail here
    get_policy("cake:gamma=10:tau1=2").select(prompt, 20)
    get_policy("cake", kernel=3).select(prompt, 20)
    assert get_policy("cake").select(prompt, 12) == first


@pytest.mark.parametrize("shape", slowly.SHAPES)
def test_tova_is_the_last_query_of_all_heads(make_prompt, shape):
    prompt = slowly.prompt_of(make_prompt, **shape, seed=3)
    for layer, found in enumerate(LastQuery()(prompt)):
        weights, _ = weights_of(prompt, layer)
        expected = weights[:, -1].mean(0).tolist()
        close(found, [expected] * prompt.kv_heads)
    # The window changes what is kept anyway, and not what is looked at.
    if prompt.window > 1:
        narrow = LastQuery()(prompt.with_window(1))
        torch.testing.assert_close(narrow[0][:, : found.shape[1]], LastQuery()(prompt)[0])


def test_tova_keeps_the_same_tokens_in_all_heads_of_a_layer(make_prompt):
    choice = get_policy("tova").select(make_prompt(40), 12)
    assert (choice.kept == choice.kept[:, :1]).all()
    assert not torch.equal(choice.kept[0], choice.kept[1])


@pytest.mark.parametrize("scorer", [AttentionTimesValue(), MeanAndVariance(), LastQuery()], ids=str)
@pytest.mark.parametrize("tokens", [1, 3, 4])
def test_short_prompts_have_no_columns(make_prompt, scorer, tokens):
    assert [each.shape for each in scorer(make_prompt(tokens))] == [(2, 0), (2, 0)]


@pytest.mark.parametrize("scorer", [AttentionTimesValue(), MeanAndVariance(), LastQuery()], ids=str)
def test_half_precision_is_widened_before_any_product(make_prompt, scorer):
    half, wide = make_prompt(30), make_prompt(30)
    for name in ("keys", "values", "window_queries"):
        setattr(half, name, [layer.bfloat16() for layer in getattr(half, name)])
        setattr(wide, name, [layer.bfloat16().float() for layer in getattr(wide, name)])
    for a, b in zip(scorer(half), scorer(wide), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


def test_laq_scores_by_the_last_queries_of_the_window_and_those_of_the_draft(tiny_llama):
    """The first eviction goes by the whole window; with as many recent queries nothing is left out."""
    prompt = prefill(tiny_llama, random_ids(50, seed=3), window=6)

    def scores(recent):
        return LookaheadQueries(draft=4, capacity=12, recent=recent)(prompt)

    assert all(torch.equal(a, b) for a, b in zip(scores(6), scores(99), strict=True))
    assert not torch.equal(scores(6)[0], scores(2)[0])
    (draft,) = [found for key, found in prompt.memo.items() if key[0] == "draft"]
    assert len(draft.queries[0][0]) > 0
    window, later = prompt.window_queries[1][:, -2:], draft.queries[1]
    seen = []
    for head in range(tiny_llama.heads):
        mine = prompt.keys[1][head * prompt.kv_heads // tiny_llama.heads].double()
        for row, query in enumerate(torch.cat([window[head], later[head]]).double()):
            products = mine[: 50 - max(1 - row, 0)] @ query * prompt.factor
            seen.append(products.softmax(0)[:44])
    by_head = torch.stack(seen).view(prompt.kv_heads, -1, 44).mean(1)
    close(scores(2)[1], [slowly.pooled(row, 7, "max") for row in by_head.tolist()], rtol=1e-3)
    with pytest.raises(RequestError, match="At least one query"):
        get_policy("laq:recent=0")


@pytest.mark.parametrize("shape", slowly.SHAPES)
@pytest.mark.parametrize(("half", "width"), [(8.0, 5), (0.5, 1), (1e6, 3)])
def test_fading_is_the_most_of_the_queries_by_age(make_prompt, shape, half, width):
    prompt = slowly.prompt_of(make_prompt, **shape, seed=4)
    before = prompt.tokens - prompt.window
    for layer, found in enumerate(FadingQueries(half, width=width)(prompt)):
        weights, group = weights_of(prompt, layer)
        queries = weights.shape[1]
        expected = []
        for kv_head in range(prompt.kv_heads):
            row = [0.0] * before
            for head in range(kv_head * group, (kv_head + 1) * group):
                for p in range(before):
                    aged = [float(weights[head, q, p]) / 2 ** ((queries - 1 - q) / half) for q in range(queries)]
                    row[p] += max(aged) / group
            expected.append(slowly.pooled(row, width, "avg"))
        close(found, expected)


def test_phrases_of_fading_are_as_wide_as_a_budget_affords(make_prompt):
    widths = {budget: FadingQueries().at(budget).width for budget in (4, 16, 32, 64, 128, 4096)}
    assert widths == {4: 3, 16: 5, 32: 11, 64: 21, 128: 31, 4096: 31}
    assert FadingQueries(width=7).at(4096).width == 7
    prompt = make_prompt(60, window=4)
    fixed = get_policy("fading:width=5").select(prompt, 16)
    assert get_policy("fading").select(prompt, 16) == fixed
    assert get_policy("fading:phrase=1").select(prompt, 16) != fixed
    with pytest.raises(RequestError, match="for a budget; name one"):
        get_policy("fading").ranks(prompt)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("half=0", "above 0, not 0.0"),
        ("phrase=1.5", "share of the budget"),
        ("width=4", "odd number"),
        ("phrase=0", "sh"),
    ],
)
def test_fading_refuses_what_makes_no_sense(options, said):
    with pytest.raises(RequestError, match=said):
        get_policy(f"fading:{options}")


def test_a_published_window_is_what_runs_use_where_nothing_else_is_said():
    published = {"laq": 8, "cake": 32, "lava": 32, "lava+uniform": 32, "defensive": 32, "tova": 1, "window": 8}

    def window(method, settings=None, knobs=None):
        return (settings or MethodSettings()).policy(method, None, knobs or {}).window

    assert {method: window(method) for method in published} == published
    for method in published:
        assert window(method, MethodSettings(window=16)) == 16
        assert window(method, knobs={"window": 64}) == 64
        assert window(method, MethodSettings(window=16), {"window": 64}) == 16
    assert window("cake:window=4", MethodSettings(window=16)) == 4
    # The split of a pair has no say, and in Python it is the prompts' window unless the caller names one.
    assert window("window+cake") == 8
    assert get_policy("cake").window is None
    # LAQ++ keeps fewer tokens than it observes queries.
    assert MethodSettings().policy("laq", None).observe == 32
    assert MethodSettings().policy("laq:observe=4", None).observe == 4
    assert MethodSettings().policy("laq", None, {"observe": 16}).observe == 16
    assert get_policy("laq").observe is None
    assert MethodSettings().policy("fading", None).observe == 32
    assert {method: tried["window"][0] for method in published if (tried := tried_of(method))} == published


def tried_of(method):
    from cokv_bench.policies import find_method

    return find_method(method).tried


@pytest.mark.parametrize("name", ["cake:gamma=-1", "cake:kernel=2", "lava:pooling=sum", "tova:kernel=3"])
def test_options_that_mean_nothing_are_refused(name):
    with pytest.raises(RequestError):
        get_policy(name)
