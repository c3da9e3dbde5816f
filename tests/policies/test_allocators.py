"""Allocators: exact totals, the shapes of their splits, and the theorem of Ada-KV."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cokv_bench.errors import RequestError
from cokv_bench.policies.allocators import Pyramid, Static, adaptive, pyramid, uniform


def test_uniform():
    assert uniform(2, 3, 5).tolist() == [[5, 5, 5], [5, 5, 5]]
    assert uniform(2, 3, 5).dtype == torch.int64
    with pytest.raises(RequestError, match="beyond the window"):
        uniform(2, 3, -1)


@given(
    layers=st.integers(1, 70),
    kv_heads=st.integers(1, 4),
    base=st.integers(0, 300),
    before=st.integers(0, 700),
    beta=st.integers(1, 30),
)
def test_pyramid_is_linear_and_exact(layers, kv_heads, base, before, beta):
    counts = pyramid(layers, kv_heads, base, tokens=before + 8, window=8, beta=beta)
    assert counts.dtype == torch.int64
    assert counts.shape == (layers, kv_heads)
    assert int(counts.sum()) == min(base, before) * layers * kv_heads
    per_layer = counts[:, 0]
    assert (counts == per_layer[:, None]).all(), "heads of a layer differ"
    assert (per_layer.diff() <= 0).all(), "a later layer has more"
    assert int(per_layer.min()) >= 0
    assert int(per_layer.max()) <= before
    if base >= before or layers == 1:
        return
    low = base // beta
    high = 2 * base - low
    if high >= before:
        high, low = before, 2 * base - before
    for layer, given_tokens in enumerate(per_layer.tolist()):
        line = high - Fraction(layer * (high - low), layers - 1)
        assert abs(given_tokens - line) < 1


@given(
    layers=st.integers(2, 70),
    base=st.integers(0, 300),
    before=st.integers(1, 700),
    beta=st.integers(1, 30),
)
def test_published_pyramid_is_the_floored_schedule(layers, base, before, beta):
    counts = pyramid(layers, 2, base, tokens=before + 8, window=8, beta=beta, published_rounding=True)
    low = base // beta
    high = 2 * base - low
    if high >= before:
        high, low = before, 2 * base - before
    step = (high - low) // (layers - 1)
    assert counts.tolist() == [[high - layer * step] * 2 for layer in range(layers)]


def test_published_pyramid_of_one_layer_is_uniform():
    assert pyramid(1, 2, 30, tokens=90, window=8, published_rounding=True).tolist() == [[30, 30]]


def test_impossible_pyramids_are_refused():
    with pytest.raises(RequestError, match="beyond the window"):
        pyramid(2, 2, -1, tokens=90, window=8)
    with pytest.raises(RequestError, match="beta"):
        pyramid(2, 2, 10, tokens=90, window=8, beta=0)


def draw_scores(seed: int, kv_heads: int, before: int, levels: int) -> torch.Tensor:
    """Scores of `levels` distinct values (0: all distinct), one head far stronger than the others."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(kv_heads, before, generator=generator, dtype=torch.float64)
    scores[0] *= 3
    return scores if levels == 0 else (scores * levels).floor() / levels


scores_strategy = st.builds(
    draw_scores, st.integers(0, 999), st.integers(1, 5), st.integers(1, 40), st.sampled_from([0, 2, 5])
)


def hits_by_sorting(scores: torch.Tensor, top: int) -> list[int]:
    cells = [(-scores[h, p].item(), p, h) for h in range(scores.shape[0]) for p in range(scores.shape[1])]
    winners = [h for _, _, h in sorted(cells)[:top]]
    return [winners.count(h) for h in range(scores.shape[0])]


@given(scores_strategy, st.integers(0, 50), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_adaptive_is_algorithm_1_with_an_exact_total(scores, base, safeguard):
    kv_heads, before = scores.shape
    counts = adaptive(scores, base, safeguard=safeguard)
    assert counts.dtype == torch.int64
    assert int(counts.sum()) == min(base, before) * kv_heads
    assert int(counts.min()) >= 0
    assert int(counts.max()) <= before
    if base <= before:
        hits = hits_by_sorting(scores, base * kv_heads)
        for count, hit in zip(counts.tolist(), hits, strict=True):
            assert abs(count - ((1 - safeguard) * hit + safeguard * base)) < 1
            assert count >= int(safeguard * base)


@given(scores_strategy, st.integers(0, 40), st.sampled_from([0.0, 0.2, 0.5]))
def test_published_adaptive_rounds_each_head_half_to_even(scores, base, safeguard):
    counts = adaptive(scores, base, safeguard=safeguard, published_rounding=True)
    if base > scores.shape[1]:
        assert counts.tolist() == [scores.shape[1]] * scores.shape[0]
        return
    hits = hits_by_sorting(scores, base * scores.shape[0])
    assert counts.tolist() == [round(hit * (1 - safeguard) + int(base * safeguard)) for hit in hits]


def kept_mass(scores: torch.Tensor, counts: list[int]) -> float:
    return sum(scores[head].sort(descending=True).values[:count].sum().item() for head, count in enumerate(counts))


@settings(max_examples=200)
@given(scores_strategy, st.integers(0, 40), st.data())
def test_no_other_split_keeps_more_attention(scores, base, data):
    """Ada-KV's theorem: the L1 loss is at most 2hC - 2C * mass, so the most mass is the least bound."""
    kv_heads, before = scores.shape
    base = min(base, before)
    best = kept_mass(scores, adaptive(scores, base, safeguard=0).tolist())
    other, left = [], base * kv_heads
    for head in range(kv_heads):
        fewest = max(left - before * (kv_heads - head - 1), 0)
        other.append(data.draw(st.integers(fewest, min(left, before))))
        left -= other[-1]
    assert left == 0
    for split in (other, [base] * kv_heads):
        heads, largest_value_norm = kv_heads, 1.7
        bound = 2 * heads * largest_value_norm - 2 * largest_value_norm * best
        assert bound <= 2 * heads * largest_value_norm - 2 * largest_value_norm * kept_mass(scores, split) + 1e-9


def test_equal_scores_are_split_evenly():
    """With ties resolved head by head the first head would get everything."""
    assert adaptive(torch.ones(4, 20), 5, safeguard=0).tolist() == [5, 5, 5, 5]


def test_impossible_adaptive_requests_are_refused():
    for safeguard in (-0.1, 1.1, float("nan")):
        with pytest.raises(RequestError, match="safeguard"):
            adaptive(torch.rand(2, 9), 3, safeguard=safeguard)
    with pytest.raises(RequestError, match="beyond the window"):
        adaptive(torch.rand(2, 9), -1)
    with pytest.raises(RequestError, match="given"):
        adaptive(torch.rand(2, 3, 9), 1)


def test_the_schedule_follows_the_prompt_and_not_the_first_one(make_prompt):
    """The published code keeps the first prompt's schedule; a clamp by a short prompt must not stick."""
    allocator = Pyramid()
    short, long = make_prompt(40, layers=4), make_prompt(400, layers=4)
    alone = Pyramid()(long, [], 36).tolist()
    assert allocator(short, [], 36).tolist() != alone
    assert allocator(long, [], 36).tolist() == alone


def test_static_takes_the_given_numbers(make_prompt):
    given_counts = np.array([[4, 12], [9, 7]])
    counts = Static(lambda budget: given_counts)(make_prompt(30), [], 8)
    assert counts.tolist() == [[0, 8], [5, 3]]
    assert given_counts.tolist() == [[4, 12], [9, 7]], "the caller's array was written to"


def test_static_gives_what_a_head_cannot_use_to_the_others(make_prompt):
    counts = Static(lambda budget: [[34, 14], [8, 8]])(make_prompt(20), [], 16)
    assert counts.tolist() == [[16, 16], [8, 8]]
    lost = Static(lambda budget: [[34, 14], [8, 8]], published_rounding=True)(make_prompt(20), [], 16)
    assert lost.tolist() == [[16, 10], [4, 4]]


def test_static_spends_what_truncation_left(make_prompt):
    """Published CoKV sizes miss the total by up to a token a head."""
    counts = Static(lambda budget: [[11, 7], [7, 6]])(make_prompt(30), [], 8)
    assert int(counts.sum()) == 16


def test_static_keeps_the_window_of_a_head_given_less(make_prompt):
    counts = Static(lambda budget: [[2, 14], [8, 8]])(make_prompt(30), [], 8)
    assert counts[0, 0] == 0
    assert int(counts.sum()) == 16


@pytest.mark.parametrize(
    ("budgets", "sentence"),
    [
        (lambda b: np.full((4, 8), b), r"\(4, 8\).*\(2, 2\).*profile this model first"),
        (lambda b: np.full(4, b), "profile this model first"),
        (lambda b: np.full((2, 2), 64), "64.0 tokens per head"),
        (lambda b: np.full((2, 2), float(b)), "whole numbers"),
        (lambda b: np.array([[b, b], [b, -b]]), "whole numbers"),
    ],
)
def test_static_refuses_budgets_of_another_model_or_total(make_prompt, budgets, sentence):
    with pytest.raises(RequestError, match=sentence):
        Static(budgets)(make_prompt(30), [], 8)


def test_static_refuses_a_table_in_place_of_a_function():
    with pytest.raises(RequestError, match="function"):
        Static(np.ones((2, 2), dtype=int))
