"""Selection: what is kept, in which order ties fall, and which requests are refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench.errors import RequestError
from cokv_bench.kvcache.selection import Selection, rank_positions


def test_best_tokens_and_window_are_kept():
    scores = [torch.tensor([[0.1, 0.9, 0.5], [3.0, 2.0, 1.0]]), torch.tensor([[0.0, 0.0, 1.0], [1.0, 2.0, 3.0]])]
    choice = Selection.from_scores(scores, [[2, 0], [1, 3]], window=2)
    assert (choice.layers, choice.kv_heads, choice.tokens) == (2, 2, 5)
    assert choice.positions(0, 0).tolist() == [1, 2, 3, 4]
    assert choice.positions(0, 1).tolist() == [3, 4]
    assert choice.positions(1, 0).tolist() == [2, 3, 4]
    assert choice.positions(1, 1).tolist() == [0, 1, 2, 3, 4]
    assert choice.counts.tolist() == [[4, 2], [3, 5]]
    assert choice.counts.dtype == choice.positions(0, 0).dtype == torch.int64
    assert choice.total == 14
    assert choice.mask(1).tolist() == [[False, False, True, True, True], [True] * 5]


@pytest.mark.parametrize("counts", [[[1, 9]], np.array([[1, 9]], dtype=np.int32), torch.tensor([[1, 9]])])
def test_counts_may_be_lists_numpy_or_torch_and_are_clipped(counts):
    choice = Selection.from_scores([torch.rand(2, 6)], counts, window=3)
    assert choice.counts.tolist() == [[4, 9]]


@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.integers(0, 40), st.integers(0, 5))
def test_ties_keep_the_lower_position(data, layers, kv_heads, before, window):
    """Against Python's stable sort, with scores of three values only."""
    row = st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=before, max_size=before)
    values = data.draw(st.lists(row, min_size=layers * kv_heads, max_size=layers * kv_heads))
    scores = torch.tensor(values).reshape(layers, kv_heads, before)
    counts = torch.tensor(
        data.draw(st.lists(st.integers(0, 45), min_size=layers * kv_heads, max_size=layers * kv_heads))
    ).reshape(layers, kv_heads)
    choice = Selection.from_scores(list(scores), counts, window)
    for layer in range(layers):
        for head in range(kv_heads):
            ordered = sorted(range(before), key=lambda p: (-scores[layer, head, p].item(), p))
            expected = sorted(ordered[: counts[layer, head]]) + list(range(before, before + window))
            assert choice.positions(layer, head).tolist() == expected


def test_long_plateaus_are_sorted_stably():
    """A sort that is stable only for short rows would pass the test above."""
    ranks = rank_positions([torch.zeros(2, 50_000)])
    assert torch.equal(ranks[0, 1], torch.arange(50_000, dtype=torch.int32))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 12), st.integers(0, 15), st.integers(0, 2**9 - 1))
def test_coalition_members_keep_all_and_others_the_window(layers, kv_heads, tokens, window, code):
    members = np.array([code >> i & 1 for i in range(layers * kv_heads)], dtype=bool).reshape(layers, kv_heads)
    choice = Selection.from_coalition(members, tokens, window)
    assert choice == Selection.from_coalition(torch.from_numpy(members), tokens, window)
    for layer in range(layers):
        for head in range(kv_heads):
            first = 0 if members[layer, head] else max(tokens - window, 0)
            assert choice.positions(layer, head).tolist() == list(range(first, tokens))


def test_equal_selections_have_equal_keys_and_others_do_not():
    one = Selection.from_coalition([[True, False]], 10, 2)
    same = Selection.from_scores([torch.rand(2, 8)], [[8, 0]], 2)
    assert one == same
    assert one.key() == same.key()
    assert len({one, same, Selection.full(1, 2, 10)}) == 2
    # Same bits in another shape: not the same selection.
    assert Selection.full(2, 1, 10).key() != Selection.full(1, 2, 10).key()
    assert Selection.full(1, 2, 10) != "full"


@pytest.mark.parametrize(
    ("scores", "counts", "window", "sentence"),
    [
        ([torch.rand(2, 5)], [[1, 1, 1]], 2, "shape"),
        ([torch.rand(2, 5)], [1, 1], 2, "shape"),
        ([torch.rand(2, 5)], [[1, -1]], 2, "negative"),
        ([torch.rand(2, 5)], [[1.0, 1.0]], 2, "integers"),
        ([torch.rand(2, 5)], [[1, 1]], -1, "window"),
        ([torch.rand(2, 5), torch.rand(2, 6)], [[1, 1]] * 2, 2, "shapes"),
        ([torch.rand(5)], [[1]], 2, "shapes"),
        ([], [[1]], 2, "shapes"),
        ([torch.tensor([[1.0, float("nan")]])], [[1]], 2, "NaN"),
    ],
)
def test_impossible_scores_and_counts_are_refused(scores, counts, window, sentence):
    with pytest.raises(RequestError, match=sentence):
        Selection.from_scores(scores, counts, window)


def test_other_impossible_selections_are_refused():
    with pytest.raises(RequestError, match="bool"):
        Selection(torch.ones(1, 2, 3))
    with pytest.raises(RequestError, match="coalition"):
        Selection.from_coalition(np.array([True, False]), 10, 2)
    with pytest.raises(RequestError, match="coalition"):
        Selection.from_coalition([[0, 1]], 10, 2)
    with pytest.raises(RequestError, match="tokens"):
        Selection.from_coalition([[True]], -1, 2)
