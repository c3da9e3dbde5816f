"""Named policies: what they are made of, which options they take, and properties that all of them share."""

import functools
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cokv_bench.budgets import HeadShares, embedded, load_head_file
from cokv_bench.budgets.apportion import apportion
from cokv_bench.errors import RequestError
from cokv_bench.kvcache.selection import Selection
from cokv_bench.policies import POLICIES, attention, get_policy, register_policy
from cokv_bench.policies.allocators import Uniform
from cokv_bench.policies.attention import window_of

NAMES = [
    "full",
    "streaming-llm",
    "h2o",
    "snapkv",
    "pyramidkv",
    "ada-snapkv",
    "ada-pyramid",
    "headkv",
    "cokv",
    "cokv-search",
    "random",
    "critical-ada",
    "cake",
    "lava",
]
EVICTING = NAMES[1:]


@pytest.fixture(scope="session")
def make_prompt(make_prompt):
    """Prompts of a model whose output projections can be read."""
    return functools.partial(make_prompt, width=5)


def policy_for(name, prompt, **options):
    """The policy, with uneven budgets of the prompt's model where it needs some."""
    if name in ("headkv", "cokv", "cokv-search"):
        shares = np.arange(prompt.layers * prompt.kv_heads).reshape(prompt.layers, prompt.kv_heads) ** 2
        total_heads, window = shares.size, prompt.window

        def budgets(budget):
            return window + apportion(shares, (budget - window) * total_heads, 10**6)

        options["budgets"] = budgets
    return get_policy(name, **options)


shapes = st.fixed_dictionaries(
    {
        "tokens": st.integers(1, 60),
        "layers": st.integers(1, 4),
        "kv_heads": st.integers(1, 3),
        "group": st.integers(1, 2),
        "window": st.integers(1, 6),
        "seed": st.integers(0, 99),
    }
)


@settings(max_examples=40)
@given(shapes, st.integers(1, 70))
def test_every_policy_keeps_exactly_its_budget(make_prompt, shape, beyond):
    prompt = make_prompt(**shape, dim=2, sums=True)
    budget = prompt.window + beyond
    for name in NAMES:
        choice = policy_for(name, prompt).select(prompt, budget=budget)
        heads = prompt.layers * prompt.kv_heads
        kept = prompt.tokens if name == "full" else min(budget, prompt.tokens)
        assert choice.total == kept * heads, name
        assert choice.kept.shape == (prompt.layers, prompt.kv_heads, prompt.tokens)
        assert choice.kept[:, :, -prompt.window :].all(), f"{name} evicts from the window"
        assert int(choice.counts.max()) <= prompt.tokens
        positions = choice.positions(prompt.layers - 1, prompt.kv_heads - 1).tolist()
        assert positions == sorted(set(positions))
        assert set(positions) <= set(range(prompt.tokens))


@settings(max_examples=20)
@given(shapes, shapes, st.integers(1, 40))
def test_no_prompt_leaves_a_trace_for_the_next(make_prompt, first, second, beyond):
    budget = 6 + beyond
    second = {**second, "layers": first["layers"], "kv_heads": first["kv_heads"], "window": first["window"]}
    for name in NAMES:
        one, other = make_prompt(**first, dim=2, sums=True), make_prompt(**second, dim=2, sums=True)
        policy = policy_for(name, one)
        policy.select(one, budget)
        alone = make_prompt(**second, dim=2, sums=True)
        assert policy.select(other, budget) == policy_for(name, alone).select(alone, budget), name


@settings(max_examples=30)
@given(shapes, st.integers(1, 50), st.integers(0, 50))
def test_a_larger_budget_keeps_what_a_smaller_one_keeps(make_prompt, shape, beyond, more):
    """For uniform counts, whatever the scorer; uneven allocators may shift tokens between heads."""
    prompt = make_prompt(**shape, dim=2, sums=True)
    for name in ("snapkv", "h2o", "random"):
        small = get_policy(name).select(prompt, prompt.window + beyond)
        large = get_policy(name).select(prompt, prompt.window + beyond + more)
        assert (small.kept <= large.kept).all(), name


@pytest.mark.parametrize("name", EVICTING)
@pytest.mark.parametrize("tokens", [2, 20])
@pytest.mark.parametrize("budget", [-5, 0, 3, 4])
def test_budgets_within_the_window_are_refused(make_prompt, name, tokens, budget):
    prompt = make_prompt(tokens, window=4, sums=True)
    with pytest.raises(RequestError, match=f"budget of {budget} tokens.*window of 4.*at least 5"):
        policy_for(name, prompt).select(prompt, budget=budget)


@pytest.mark.parametrize("budget", [8.0, "8", True, None])
def test_budgets_are_whole_numbers(make_prompt, budget):
    with pytest.raises(RequestError, match="whole number"):
        get_policy("snapkv").select(make_prompt(20), budget=budget)


def test_numpy_budgets_are_whole_numbers_too(make_prompt):
    prompt = make_prompt(20)
    assert get_policy("snapkv").select(prompt, np.int64(8)) == get_policy("snapkv").select(prompt, 8)


def test_full_keeps_all_with_or_without_a_budget(make_prompt):
    prompt = make_prompt(20)
    assert get_policy("full").select(prompt, None) == get_policy("full").select(prompt, 8) == Selection.full(2, 2, 20)
    with pytest.raises(RequestError, match="window"):
        get_policy("full").select(prompt, 0)


@pytest.mark.parametrize("name", EVICTING)
def test_short_prompts_are_kept_whole(make_prompt, name):
    for tokens, budget in [(3, 9), (4, 9), (9, 9)]:
        prompt = make_prompt(tokens, window=4, sums=True)
        assert policy_for(name, prompt).select(prompt, budget) == Selection.full(2, 2, tokens)
        assert policy_for(name, prompt, published_rounding=True).select(prompt, budget).total == 4 * tokens


def test_one_prompt_is_scored_and_ranked_once(make_prompt):
    prompt = make_prompt(40)
    smallest = get_policy("snapkv").select(prompt, 5)
    prompt.window_queries = None  # whoever scored again would fail here
    for name in ("snapkv", "pyramidkv", "ada-snapkv", "ada-pyramid"):
        for budget in (8, 16, 32):
            get_policy(name).select(prompt, budget)
    assert get_policy("snapkv").select(prompt, 5) == smallest
    with pytest.raises(TypeError):
        get_policy("snapkv", kernel=3).select(prompt, 8)


def test_methods_that_observe_the_same_queries_read_them_once(make_prompt, monkeypatch):
    prompt = make_prompt(50, layers=2, window=8, seed=1)
    asked = []
    monkeypatch.setattr(attention, "window_of", lambda *of: asked.append(of) or window_of(*of))
    for name in ("snapkv", "snapkv:kernel=3:pooling=avg", "snapkv:window=4:observe=8", "ada-snapkv:kernel=11"):
        narrow = get_policy(name).select(prompt, 20)
        alone = get_policy(name).select(make_prompt(50, layers=2, window=8, seed=1), 20)
        assert narrow == alone
    # Four prompts of their own, each of two layers, and one in common.
    assert len(asked) == 2 * 5
    get_policy("snapkv:queries=max").select(prompt, 20)
    get_policy("snapkv:window=4").select(prompt, 20)
    assert len(asked) == 2 * 7


def test_streaming_llm_keeps_four_sinks_and_the_most_recent(make_prompt):
    choice = get_policy("streaming-llm").select(make_prompt(40, window=4), 12)
    assert choice.positions(1, 1).tolist() == [0, 1, 2, 3, *range(32, 40)]


def test_policies_differ(make_prompt):
    prompt = make_prompt(60, layers=3, kv_heads=3, sums=True)
    assert (
        len({policy_for(name, prompt).select(prompt, 16) for name in NAMES if name not in ("headkv", "cokv-search")})
        == 12
    )


def test_every_name_is_described_with_its_source():
    assert list(POLICIES) == NAMES
    for name in NAMES:
        policy = get_policy(name)
        assert policy.name == name
        assert "\n" not in policy.description
        assert "arXiv" in policy.description or name in ("full", "random", "cokv-search")
        assert policy.needs_accumulated_attention == (name == "h2o")


def test_h2o_without_the_sums_says_how_to_get_them(make_prompt):
    with pytest.raises(RequestError, match="accumulated_attention=True"):
        get_policy("h2o").select(make_prompt(20), 8)


@pytest.mark.parametrize(
    ("name", "option"),
    [("snapkv", "seed"), ("h2o", "kernel"), ("random", "pooling"), ("snapkv", "budgets"), ("full", "kernel")],
)
def test_options_of_other_methods_are_refused(name, option):
    with pytest.raises(RequestError, match=f"'{name}' takes no option '{option}'; it takes .*published_rounding"):
        get_policy(name, **{option: 1})


def test_options_reach_the_halves(make_prompt):
    prompt = make_prompt(50, layers=3, kv_heads=3)
    for name, options in [
        ("snapkv", {"kernel": 1}),
        ("snapkv", {"pooling": "avg"}),
        ("pyramidkv", {"beta": 2}),
        ("ada-snapkv", {"safeguard": 1.0}),
        ("ada-pyramid", {"beta": 2}),
        ("streaming-llm", {"sinks": 1}),
        ("random", {"seed": 1}),
    ]:
        assert get_policy(name, **options).select(prompt, 12) != get_policy(name).select(prompt, 12), (name, options)


def test_impossible_option_values_are_refused_at_once():
    with pytest.raises(RequestError, match="odd"):
        get_policy("snapkv", kernel=4)
    with pytest.raises(RequestError, match="safeguard"):
        get_policy("ada-pyramid", safeguard=2)


def test_unknown_names_get_a_suggestion():
    with pytest.raises(RequestError, match="Unknown method 'snap-kv'; did you mean snapkv"):
        get_policy("snap-kv")


@pytest.mark.parametrize("method", ["headkv", "cokv", "cokv-search"])
def test_embedded_budgets_serve_where_none_are_given(make_prompt, monkeypatch, method):
    asked = []

    def embedded_budgets(name, knobs, *, window, published_rounding):
        assert not published_rounding
        asked.append((name, window))
        return lambda budget: [[budget + 3, budget - 3], [budget, budget]]

    monkeypatch.setattr(sys.modules["cokv_bench.budgets"], "embedded_budgets", embedded_budgets, raising=False)
    policy = get_policy(method)
    assert asked == [], "read before it was needed"
    # What ranks with shares that ship observes more queries than the others keep tokens.
    made = replace(make_prompt(60, window=32 if method == "cokv-search" else 16), model=None)
    assert policy.select(made, 20).counts.tolist() == [[23, 17], [20, 20]]
    assert asked == [(method, 4 if method == "cokv-search" else 16)]
    with pytest.raises(RequestError, match=r"shape \(2, 2\).*needs \(3, 2\).*profile this model first"):
        policy.select(replace(make_prompt(60, window=made.window, layers=3), model=None), 20)


@pytest.mark.parametrize("method", sorted(embedded.SHIPPED))
@pytest.mark.parametrize("options", [{"window": 4}, {"window": 16}, {"window": 8, "sinks": 4}], ids=str)
def test_head_files_share_out_what_the_window_and_protected_tokens_leave(make_prompt, method, options):
    file, kept = load_head_file(embedded.SHIPPED[method]()), options["window"] + options.get("sinks", 0)
    # So long that no head is given more than it has.
    prompt = replace(make_prompt(6000, window=32, layers=30, kv_heads=3, group=1, dim=2), model=None)
    for budget in (kept + 1, 40, 64):
        wanted = file.tokens_at(budget, window=kept)
        for source in ({}, {"budgets": file.tokens_at}):
            choice = get_policy(method, **options, **source).select(prompt, budget)
            assert choice.counts.tolist() == wanted.tolist(), (budget, source)


@pytest.mark.parametrize("method", ["cokv", "headkv"])
def test_head_files_round_as_published_where_that_is_asked_for(make_prompt, method):
    file = load_head_file(embedded.SHIPPED[method]())
    prompt = replace(make_prompt(6000, layers=30, kv_heads=3, group=1, dim=2), model=None)
    wanted = file.tokens_at(64, window=4, published_rounding=True)
    assert wanted.sum() != 64 * 90
    for source in ({}, {"budgets": file.tokens_at}):
        choice = get_policy(method, published_rounding=True, window=4, **source).select(prompt, 64)
        assert choice.counts.tolist() == wanted.tolist()


def test_shares_that_ship_bring_the_ranking_that_they_were_searched_under(monkeypatch, tmp_path):
    shipped = HeadShares.load(embedded.shares_path())
    policy = get_policy("cokv-search")
    ranked = get_policy(shipped.scorer)
    assert (policy.scorer, policy.observe, policy.window) == (ranked.scorer, ranked.observe, shipped.window)
    replace(shipped, scorer="laq:draft=3:observe=16").save(tmp_path / "shares.json")
    monkeypatch.setitem(embedded.SHIPPED, "cokv-search", lambda: tmp_path / "shares.json")
    policy, ranked = get_policy("cokv-search"), get_policy("laq:draft=3:observe=16")
    assert (policy.scorer, policy.observe, policy.window) == (ranked.scorer, 16, shipped.window)
    # What is asked for comes first, and a pair has a ranking of its own.
    assert get_policy("cokv-search:window=16").window == 16
    assert get_policy("cokv-search", window=16).window == 16
    assert get_policy("window+cokv-search").scorer == get_policy("window").scorer
    own = get_policy("cokv-search", budgets=lambda budget: [[budget]])
    assert (own.scorer, own.observe, own.window) == (get_policy("window").scorer, None, None)


@dataclass(frozen=True)
class FirstTokens:
    """A scorer as a user would write it."""

    def __call__(self, prompt):
        return [-torch.arange(prompt.tokens - prompt.window).repeat(prompt.kv_heads, 1)] * prompt.layers


@dataclass(frozen=True)
class Greedy:
    """An allocator that overspends."""

    def __call__(self, prompt, scores, budget):
        return torch.full((prompt.layers, prompt.kv_heads), budget)


def test_users_register_their_own(make_prompt, registries_restored):
    register_policy("first", "the first tokens", FirstTokens, Uniform)
    assert get_policy("first").select(make_prompt(40), 7).positions(0, 0).tolist() == [0, 1, 2, 36, 37, 38, 39]
    with pytest.raises(RequestError, match="already"):
        register_policy("first", "again", FirstTokens, Uniform)
    with pytest.raises(RequestError, match="both"):
        register_policy("half", "no allocator", FirstTokens, None)
    with pytest.raises(RequestError, match="'misspelt' takes no option 'breadth'"):
        register_policy("misspelt", "another kernel", FirstTokens, Uniform, breadth=11)


def test_wrong_halves_are_caught(make_prompt, registries_restored):
    register_policy("greedy", "overspends", FirstTokens, Greedy)
    with pytest.raises(RequestError, match="'greedy' keeps 48 tokens where 32 are its budget"):
        get_policy("greedy").select(make_prompt(40), 8)
    register_policy("narrow", "scores too few tokens", lambda: lambda prompt: [torch.rand(2, 3)] * 2, Uniform)
    with pytest.raises(RequestError, match=r"2 layers of scores \(2, 36\)"):
        get_policy("narrow").select(make_prompt(40), 8)


@pytest.mark.parametrize("name", EVICTING)
def test_a_window_of_its_own_is_that_of_a_prompt_prefilled_with_it(make_prompt, name):
    wide, narrow = (make_real(make_prompt(40, window=window, sums=True)) for window in (16, 4))
    choice = policy_for(name, narrow, window=4).select(wide, 20)
    assert choice == policy_for(name, narrow).select(narrow, 20)
    assert policy_for(name, wide, window=16).select(wide, 20) == policy_for(name, wide).select(wide, 20)
    with pytest.raises(RequestError, match="prefilled with 4; prefill it with window=16"):
        policy_for(name, narrow, window=16).select(narrow, 20)
    with pytest.raises(RequestError, match=r"budget of 16 tokens.*window of 16"):
        policy_for(name, wide, window=16).select(wide, 16)
    with pytest.raises(RequestError, match="at least 1 token"):
        policy_for(name, wide, window=0)


def make_real(prompt):
    """The test's prompt, of which nothing is remembered yet."""
    return replace(prompt, memo={}, shared={})


def test_head_files_that_ship_serve_their_model_alone(texty, make_prompt):
    prompt = replace(make_prompt(200, window=32, layers=30, kv_heads=3, group=1, dim=2), model=texty)
    for method in sorted(embedded.SHIPPED):
        with pytest.raises(RequestError, match=f"The head file of '{method}' that ships is of another"):
            get_policy(method, window=4, observe=4).select(prompt, 40)
