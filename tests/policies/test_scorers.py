"""Scorers against loops in float64 that follow the formulas word by word."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cokv_bench.errors import RequestError
from cokv_bench.policies.scorers import (
    AccumulatedAttention,
    Random,
    SinksRecency,
    WindowAttention,
    window_attention,
)


def slow_window_attention(queries, keys, kernel, pooling, over="mean"):
    heads, window, dim = queries.shape
    kv_heads, tokens, _ = keys.shape
    before, group = tokens - window, heads // kv_heads
    result = []
    for kv_head in range(kv_heads):
        mean = [0.0] * before
        for head in range(kv_head * group, (kv_head + 1) * group):
            rows = []
            for row in range(window):
                seen = before + row + 1
                logits = [sum((queries[head, row] * keys[kv_head, p]).tolist()) / math.sqrt(dim) for p in range(seen)]
                weights = [math.exp(x - max(logits)) for x in logits]
                rows.append([weight / sum(weights) for weight in weights])
            for p in range(before):
                column = [row[p] for row in rows]
                mean[p] += (sum(column) / window if over == "mean" else max(column)) / group
        reach = kernel // 2
        pooled = []
        for p in range(before):
            around = mean[max(p - reach, 0) : p + reach + 1]
            pooled.append(max(around) if pooling == "max" else sum(around) / kernel)
        result.append(pooled)
    return torch.tensor(result, dtype=torch.float64).reshape(kv_heads, before)


@settings(max_examples=25)
@given(
    kv_heads=st.integers(1, 2),
    group=st.integers(1, 3),
    window=st.integers(1, 4),
    before=st.integers(0, 9),
    kernel=st.sampled_from([1, 3, 7]),
    pooling=st.sampled_from(["max", "avg"]),
    over=st.sampled_from(["mean", "max"]),
    seed=st.integers(0, 99),
)
def test_window_attention_is_the_formula(kv_heads, group, window, before, kernel, pooling, over, seed):
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(kv_heads * group, window, 4, generator=generator, dtype=torch.float64)
    keys = torch.randn(kv_heads, before + window, 4, generator=generator, dtype=torch.float64)
    ours = window_attention(queries.float(), keys.float(), kernel=kernel, pooling=pooling, over=over)
    assert ours.dtype == torch.float32
    assert ours.shape == (kv_heads, before)
    torch.testing.assert_close(
        ours.double(), slow_window_attention(queries, keys, kernel, pooling, over), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_a_kernel_wider_than_any_prompt_sees_the_whole_prompt(pooling):
    generator = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(2, 3, 4, generator=generator), torch.randn(1, 12, 4, generator=generator)
    bare = window_attention(queries, keys, kernel=1, pooling="max")
    for kernel in (10**30 + 1, 10**12 + 1, 10**4 + 1, 19):
        whole = bare.max() if pooling == "max" else bare.sum().item() / kernel * torch.ones(())
        found = window_attention(queries, keys, kernel=kernel, pooling=pooling)
        torch.testing.assert_close(found, whole.expand(1, 9))


def test_half_precision_is_widened_before_the_product():
    queries, keys = torch.randn(4, 4, 16).bfloat16(), torch.randn(2, 40, 16).bfloat16()
    assert torch.equal(window_attention(queries, keys), window_attention(queries.float(), keys.float()))


def test_huge_logits_do_not_overflow():
    scores = window_attention(1e4 * torch.randn(2, 2, 8), 1e4 * torch.randn(1, 20, 8))
    assert scores.isfinite().all()


@pytest.mark.parametrize("kernel", [0, 2, 8, -1, 3.0, "7"])
def test_kernels_that_would_shift_scores_are_refused(kernel):
    with pytest.raises(RequestError, match="odd"):
        WindowAttention(kernel=kernel)


@pytest.mark.parametrize(
    ("queries", "keys"),
    [
        ((3, 2, 4), (2, 9, 4)),
        ((2, 2, 4), (2, 9, 8)),
        ((2, 9, 4), (2, 5, 4)),
        ((2, 0, 4), (2, 5, 4)),
        ((2, 4), (2, 5, 4)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(queries, keys):
    with pytest.raises(RequestError, match="given queries"):
        window_attention(torch.zeros(queries), torch.zeros(keys))


def test_unknown_pooling_is_refused():
    with pytest.raises(RequestError, match="'max' or 'avg'"):
        WindowAttention(pooling="mean")
    with pytest.raises(RequestError, match="'mean' or 'max'"):
        WindowAttention(queries="avg")


def test_accumulated_attention_drops_the_window_and_names_the_mend(make_prompt):
    prompt = make_prompt(12, sums=True)
    for scores, received in zip(AccumulatedAttention()(prompt), prompt.accumulated_attention, strict=True):
        assert torch.equal(scores, received[:, :8])
    with pytest.raises(RequestError, match="accumulated_attention=True"):
        AccumulatedAttention()(make_prompt(12))


def test_sinks_come_first_then_the_most_recent(make_prompt):
    scores = SinksRecency()(make_prompt(14, window=4))
    assert all(torch.equal(layer[1], scores[0][0]) for layer in scores)
    assert scores[0][0].argsort(descending=True).tolist() == [0, 1, 2, 3, 9, 8, 7, 6, 5, 4]
    assert SinksRecency(sinks=0)(make_prompt(8))[0][0].argsort(descending=True).tolist() == [3, 2, 1, 0]
    with pytest.raises(RequestError, match="sink"):
        SinksRecency(sinks=-1)


def test_random_depends_on_seed_and_tokens_only(make_prompt):
    prompt = make_prompt(20, seed=1)
    first = Random(3)(prompt)
    torch.rand(5)
    Random(3)(make_prompt(20, seed=2))
    assert all(torch.equal(a, b) for a, b in zip(first, Random(3)(prompt), strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], Random(4)(prompt)[0])
    assert not torch.equal(first[0], Random(3)(make_prompt(20, seed=2))[0])


def test_random_is_the_same_in_every_process(make_prompt):
    """A drawn value, pinned: Python's own hash would change it from run to run."""
    prompt = make_prompt(6, window=2)
    prompt.token_ids = torch.arange(6)
    assert Random(0)(prompt)[0][0].tolist() == pytest.approx([0.7387143, 0.0873639, 0.1306392, 0.6120492], abs=1e-6)


@pytest.mark.parametrize("tokens", [1, 3, 4])
@pytest.mark.parametrize("scorer", [WindowAttention(), AccumulatedAttention(), SinksRecency(), Random()])
def test_short_prompts_have_no_columns(make_prompt, scorer, tokens):
    assert [s.shape for s in scorer(make_prompt(tokens, window=4, sums=True))] == [(2, 0), (2, 0)]


@pytest.mark.parametrize("over", ["mean", "max"])
def test_a_prompt_is_scored_as_its_queries_and_keys_are(make_prompt, over):
    prompt = make_prompt(40, window=8).with_window(4, observe=8)
    found = WindowAttention(kernel=5, pooling="avg", queries=over)(prompt)
    for layer, scores in enumerate(found):
        alone = window_attention(
            *(prompt.window_queries[layer], prompt.keys[layer]),
            kernel=5,
            pooling="avg",
            over=over,
            scaling=prompt.form(layer),
            window=4,
        )
        torch.testing.assert_close(scores, alone, rtol=1e-6, atol=1e-8)
