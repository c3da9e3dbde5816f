"""Splits that share tokens between layers: exact totals, formulas, and what must not change them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cokv_bench.budgets.apportion import apportion
from cokv_bench.errors import RequestError
from cokv_bench.policies import get_policy
from cokv_bench.policies.allocators import AllHeads, ByEntropy, ByPreference
from cokv_bench.policies.allocators.adaptive import adaptive, compete
from cokv_bench.policies.allocators.cake import preferences
from cokv_bench.policies.allocators.lava import normalised_entropy
from cokv_bench.policies.scorers.cake import window_moments

SPLITS = {
    "lava": [ByEntropy(), ByEntropy(safeguard=0.0), ByEntropy(safeguard=1.0)],
    "cake": [ByPreference(), ByPreference(tau1=0.01, tau2=0.01), ByPreference(tau1=50, tau2=50)],
    "global": [AllHeads(), AllHeads(normalise=False), AllHeads(safeguard=0.3)],
}


def drawn(prompt, seed, kind):
    """Scores of a prompt: one layer far stronger and one far sharper than the others, or few distinct ones, or none."""
    generator = torch.Generator().manual_seed(seed)
    shape = (prompt.kv_heads, prompt.tokens - prompt.window)
    scores = [torch.rand(shape, generator=generator) for _ in range(prompt.layers)]
    scores[-1] = scores[-1] ** 20
    scores[0] = scores[0] * 1000
    if kind == "levels":
        scores = [(layer * 3).floor() for layer in scores]
    return [layer * 0 for layer in scores] if kind == "none" else scores


@settings(max_examples=60)
@given(
    tokens=st.integers(3, 60),
    layers=st.integers(1, 4),
    kv_heads=st.integers(1, 3),
    window=st.integers(1, 6),
    seed=st.integers(0, 99),
    kind=st.sampled_from(["plain", "levels", "none"]),
    share=st.floats(0, 1),
)
def test_totals_are_exact_and_no_head_keeps_more_than_there_is(
    make_prompt, tokens, layers, kv_heads, window, seed, kind, share
):
    window = min(window, tokens - 2)
    prompt = make_prompt(tokens, layers=layers, kv_heads=kv_heads, window=window, seed=seed)
    budget = window + 1 + int(share * (tokens - window - 2))
    scores = drawn(prompt, seed, kind)
    for split in (each for some in SPLITS.values() for each in some):
        counts = split(prompt, scores, budget)
        assert counts.dtype == torch.int64
        assert counts.shape == (layers, kv_heads)
        assert int(counts.sum()) == (budget - window) * layers * kv_heads, split
        assert int(counts.min()) >= 0
        assert int(counts.max()) <= tokens - window


@pytest.mark.parametrize("name", sorted(SPLITS))
@pytest.mark.parametrize("sinks", [0, 3])
def test_methods_with_these_splits_keep_their_total(make_prompt, name, sinks):
    prompt = make_prompt(50, layers=3, kv_heads=3)
    for budget in (9, 16, 30, 49):
        for ranking in ("window", "obcache", "cake"):
            choice = get_policy(f"{ranking}:sinks={sinks}+{name}").select(prompt, budget)
            assert choice.total == budget * 9
            assert choice.kept[:, :, :sinks].all()


def test_lava_shares_by_the_entropy_of_a_layers_scores(make_prompt):
    prompt = make_prompt(40, layers=3, kv_heads=2)
    scores = drawn(prompt, 5, "plain")
    weights = []
    for layer in scores:
        shares = [x / sum(layer.double().flatten().tolist()) for x in layer.double().flatten().tolist()]
        weights.append(-sum(p * math.log(p) for p in shares if p > 0) / math.log(len(shares)))
    assert [normalised_entropy(layer) for layer in scores] == pytest.approx(weights)
    counts = ByEntropy(safeguard=0.0)(prompt, scores, 14)
    assert counts.sum(dim=1).tolist() == apportion(weights, 60, 72).tolist()
    # Within a layer the best scores of all heads.
    for layer, own in zip(scores, counts, strict=True):
        best = layer.flatten().argsort(descending=True)[: int(own.sum())]
        assert own.tolist() == (best // 36).bincount(minlength=2).tolist()


def test_entropy_is_between_nothing_and_one():
    assert normalised_entropy(torch.ones(3, 7)) == pytest.approx(1)
    assert normalised_entropy(torch.eye(5)[:1]) == 0
    assert normalised_entropy(torch.zeros(3, 7)) == 0
    assert normalised_entropy(torch.ones(1, 1)) == 0
    layer = torch.rand(3, 9, generator=torch.Generator().manual_seed(0))
    assert normalised_entropy(layer * 1e-6) == pytest.approx(normalised_entropy(layer))


def test_cake_shares_by_entropy_and_variance_whatever_ranks(make_prompt):
    prompt = make_prompt(40, layers=3, kv_heads=2, seed=4)
    moments = window_moments(prompt)
    wanted = [float(layer.entropy) ** (1 / 1.6) * float(layer.spread) ** (1 / 0.6) for layer in moments]
    counts = ByPreference()(prompt, drawn(prompt, 0, "plain"), 10)
    ideal = np.array(wanted) / sum(wanted) * 36 / 2
    assert np.abs(counts.numpy() - ideal[:, None]).max() < 1
    assert torch.equal(counts, ByPreference()(prompt, drawn(prompt, 1, "levels"), 10))
    assert int((counts.amax(dim=1) - counts.amin(dim=1)).max()) <= 1
    even = ByPreference(tau1=1e9, tau2=1e9)(prompt, drawn(prompt, 0, "plain"), 10)
    assert even.tolist() == [[6, 6]] * 3


def test_preferences_hold_powers_beyond_what_floats_do():
    assert preferences([1.0, 2.0], [1e-30, 1e-30], 1.0, 0.01).tolist() == pytest.approx([0.5, 1])
    assert preferences([3.0, 0.0], [1.0, 1.0], 1.0, 1.0).tolist() == [1, 0]
    # A window of one query has no variance: nothing is known of the layers, and they share alike.
    assert preferences([1.0, 2.0], [0.0, 0.0], 1.0, 1.0).tolist() == [0, 0]


def test_a_window_of_one_shares_alike(make_prompt):
    prompt = make_prompt(40, layers=3, window=1)
    assert get_policy("cake").select(prompt, 9).counts.tolist() == [[9, 9]] * 3


def test_global_is_one_competition(make_prompt):
    prompt = make_prompt(40, layers=3, kv_heads=2)
    scores = drawn(prompt, 7, "plain")
    plain = AllHeads(normalise=False)(prompt, scores, 12)
    every = torch.cat(scores).flatten()
    winners = every.argsort(descending=True)[:48] // 36
    assert plain.flatten().tolist() == winners.bincount(minlength=6).tolist()
    # The layer of the largest numbers takes all; divided by its sum it does not.
    assert int(plain[0].sum()) == 48
    fair = AllHeads()(prompt, scores, 12)
    assert 0 < int(fair[0].sum()) < 48
    larger = [scores[0], scores[1] * 1024, scores[2] / 1024]
    assert torch.equal(AllHeads()(prompt, larger, 12), fair)
    assert AllHeads(safeguard=1.0)(prompt, scores, 12).tolist() == [[8, 8]] * 3


def test_global_of_one_layer_is_adaptive(make_prompt):
    prompt = make_prompt(40, layers=1, kv_heads=3)
    (scores,) = drawn(prompt, 2, "levels")
    for safeguard in (0.0, 0.2):
        found = AllHeads(safeguard=safeguard)(prompt, [scores], 12)[0]
        assert torch.equal(found, adaptive(scores, 8, safeguard=safeguard))


@given(st.integers(0, 99), st.integers(0, 60), st.sampled_from([0.0, 0.2, 1.0]))
def test_competition_for_any_total_is_exact(seed, total, safeguard):
    scores = torch.rand(3, 20, generator=torch.Generator().manual_seed(seed))
    counts = compete(scores, total, safeguard)
    assert int(counts.sum()) == total
    if total % 3 == 0:
        assert torch.equal(counts, adaptive(scores, total // 3, safeguard=safeguard))


def test_the_order_of_heads_and_layers_does_not_matter(make_prompt):
    prompt = make_prompt(40, layers=3, kv_heads=2, seed=9)
    turned = replace(
        prompt,
        keys=[layer.flip(0) for layer in reversed(prompt.keys)],
        window_queries=[layer.flip(0) for layer in reversed(prompt.window_queries)],
        memo={},
        shared={},
    )
    for name, some in SPLITS.items():
        for split in some:
            scores = drawn(prompt, 3, "plain")
            there = split(prompt, scores, 13)
            back = split(turned, [layer.flip(0) for layer in reversed(scores)], 13).flip(0, 1)
            # Equal remainders favour the lower index.
            assert int((there - back).abs().max()) <= 1, name


def test_negative_scores_are_no_weights(make_prompt):
    prompt = make_prompt(40)
    scores = [-layer for layer in drawn(prompt, 0, "plain")]
    for split, fix in ((ByEntropy(), "another split"), (AllHeads(), "normalise=false")):
        with pytest.raises(RequestError, match=f"negative ones; .*{fix}"):
            split(prompt, scores, 12)
    assert int(AllHeads(normalise=False)(prompt, scores, 12).sum()) == 32


@pytest.mark.parametrize(
    "name", ["window+cake:tau1=0", "window+cake:tau2=-1", "window+lava:safeguard=2", "window+global:safeguard=-1"]
)
def test_options_that_mean_nothing_are_refused(name):
    with pytest.raises(RequestError):
        get_policy(name)


def test_a_method_and_its_halves_have_one_name(make_prompt):
    prompt = make_prompt(50, layers=3, kv_heads=3)
    for name in ("lava", "cake"):
        whole = get_policy(name).select(prompt, 16)
        assert get_policy(f"{name}+{name}").select(prompt, 16) == whole
        assert get_policy(f"{name}+uniform").select(prompt, 16).counts.unique().tolist() == [16]
        assert torch.equal(get_policy(f"window+{name}").select(prompt, 16).kept[:, :, -4:], whole.kept[:, :, -4:])
    assert get_policy("cake:tau1=1:gamma=3") is not None
