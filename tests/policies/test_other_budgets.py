"""Splits from other people's budgets: curves of the prompt's shares, and two classes of heads from any file."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cokv_bench import prefill
from cokv_bench.budgets import embedded, load_head_file
from cokv_bench.errors import RequestError
from cokv_bench.kvcache.prefill import Signals, run_layers
from cokv_bench.models import Model
from cokv_bench.policies import find_method, get_policy
from tests.budgets.test_head_curves import CURVES
from tests.conftest import random_ids


@settings(max_examples=30)
@given(tokens=st.integers(2, 80), window=st.integers(1, 6), beyond=st.integers(1, 70), seed=st.integers(0, 9))
def test_curves_follow_the_prompt_and_totals_are_exact(
    make_prompt: Any, tokens: int, window: int, beyond: int, seed: int
) -> None:
    prompt = make_prompt(tokens, kv_heads=3, window=window, seed=seed)
    budget = window + beyond
    choice = get_policy("window+curves", budgets=partial(CURVES.tokens_at, window=window)).select(prompt, budget)
    assert choice.total == min(budget, tokens) * 6
    if budget < tokens and window == 1:
        kept = CURVES.tokens_at(budget, window=1, knobs={"prompt": tokens})
        np.testing.assert_array_equal(choice.counts.numpy(), kept)


def test_the_length_in_the_name_comes_before_the_prompts() -> None:
    method = find_method("window+curves:prompt=4000")
    assert dict(method.knobs) == {"prompt": 4000}
    assert method.tried.keys() == find_method("snapkv").tried.keys()
    with pytest.raises(RequestError, match="'prompt' of 'curves' must be at least 1"):
        find_method("window+curves:prompt=0")


def by_worth(budget: int, worth: Any) -> Any:
    """Budgets of six heads, in the order of their worth."""
    return np.array(worth).reshape(2, 3) + budget


@pytest.mark.parametrize(("option", "many"), [({"share": 0.34}, 2), ({"heads": 3}, 3), ({"share": 0.01}, 1), ({}, 2)])
def test_the_best_heads_share_what_the_others_leave(make_prompt: Any, option: Any, many: int) -> None:
    prompt = make_prompt(200, kv_heads=3, window=4)
    worth = [0, 5, 1, -4, 3, -5]
    order = [1, 4, 2][:many]
    choice = get_policy("window+two-class", budgets=partial(by_worth, worth=worth), **option).select(prompt, 20)
    left = (20 - 8) * 6
    for head in range(6):
        positions = choice.positions(head // 3, head % 3).tolist()
        assert positions[:4] == [0, 1, 2, 3]
        assert positions[-4:] == [196, 197, 198, 199]
        assert len(positions) - 8 == (left // many if head in order else 0)
    assert choice.total == 120


@settings(max_examples=40)
@given(
    tokens=st.integers(2, 60),
    window=st.integers(1, 4),
    beyond=st.integers(1, 60),
    share=st.floats(0.01, 1),
    ranking=st.sampled_from(["window", "sinks-recent", "recent", "keydiff"]),
)
def test_two_classes_keep_exact_totals(
    make_prompt: Any, tokens: int, window: int, beyond: int, share: float, ranking: str
) -> None:
    prompt = make_prompt(tokens, kv_heads=3, window=window)
    budget = window + 4 + beyond
    policy = get_policy(f"{ranking}+two-class", budgets=partial(by_worth, worth=range(6)), share=share)
    choice = policy.select(prompt, budget)
    assert policy.sinks == 4
    assert choice.total == min(budget, tokens) * 6
    assert choice.kept[:, :, :4].all()


def test_a_length_of_the_prompt_that_is_named_comes_before_its_own(make_prompt: Any) -> None:
    prompt = make_prompt(90, kv_heads=3, window=4)
    own, named = (get_policy(f"window+curves{each}", budgets=CURVES.tokens_at) for each in ("", ":prompt=50"))
    assert own.select(prompt, 30).counts.tolist() == CURVES.tokens_at(30, window=4, knobs={"prompt": 90}).tolist()
    expected = CURVES.tokens_at(30, window=4, knobs={"prompt": 50})
    assert named.select(prompt, 30).counts.tolist() == expected.tolist()
    assert (expected != CURVES.tokens_at(30, window=4, knobs={"prompt": 90})).any()
    with pytest.raises(RequestError, match="tells its function the prompt's length as knobs"):
        get_policy("window+curves", budgets=lambda budget: expected)


def test_protected_first_tokens_of_two_classes_are_the_users_where_he_says(make_prompt: Any) -> None:
    worth = partial(by_worth, worth=range(6))
    assert get_policy("window:sinks=1+two-class", budgets=worth).sinks == 1
    bare = get_policy("window+two-class", budgets=worth, sinks=0, heads=1).select(make_prompt(90, kv_heads=3), 12)
    assert bare.counts.tolist() == [[4, 4, 4], [4, 4, 52]]
    with pytest.raises(RequestError, match="window of 4 and the 4 protected first tokens"):
        get_policy("window+two-class", budgets=worth).select(make_prompt(90, kv_heads=3), 8)


def test_what_two_classes_cannot_be() -> None:
    for text, said in (
        ("window+two-class:share=0", "above 0 and at most 1"),
        ("window+two-class:share=1.5", "above 0 and at most 1"),
        ("window+two-class:heads=0", "at least one best head"),
    ):
        with pytest.raises(RequestError, match=said):
            get_policy(text)


def test_more_best_heads_than_there_are(make_prompt: Any) -> None:
    with pytest.raises(RequestError, match="7 heads cannot be the best of 6"):
        get_policy("window+two-class", budgets=partial(by_worth, worth=range(6)), heads=7).select(
            make_prompt(90, kv_heads=3), 20
        )


@pytest.mark.parametrize("path", [embedded.values_path(), embedded.scores_path(), embedded.shares_path()])
def test_any_head_file_makes_two_classes(make_prompt: Any, path: Path) -> None:
    file = load_head_file(path)
    prompt = make_prompt(400, layers=30, kv_heads=3, window=8)
    choice = get_policy("window+two-class", budgets=file.tokens_at, heads=20).select(prompt, 40)
    counts, worth = choice.counts, torch.from_numpy(file.tokens_at(40))
    assert choice.total == 40 * 90
    assert (counts == 12).sum() == 70
    assert worth[counts > 12].min() >= worth[counts == 12].max()


def test_layer_by_layer_is_as_at_once(tiny_llama: Model) -> None:
    curves = partial(_flat, layers=tiny_llama.layers)
    for text in ("keydiff+two-class:heads=2", "keydiff+curves"):
        policy = get_policy(text, budgets=curves)
        ids = random_ids(60)
        choice = policy.select(prefill(tiny_llama, ids), 16)
        kept: list[torch.Tensor] = []
        run_layers(
            tiny_llama,
            ids,
            lambda part, policy=policy, kept=kept: kept.append(policy.select_layer(part, tiny_llama.layers, 16)),
            window=8,
            gathered=Signals(),
            chunk=2048,
        )
        assert torch.equal(torch.stack(kept), choice.kept)


@pytest.mark.parametrize(("budget", "words"), [("abc", "'abc'"), (1.5, "not 1.5"), (8, "at least 9")])
def test_the_full_cache_refuses_the_budgets_that_others_refuse(make_prompt: Any, budget: Any, words: str) -> None:
    prompt, full = make_prompt(60, layers=1, window=8), get_policy("full")
    assert full.select_layer(prompt, 1, None).all()
    for chosen in (full.select, partial(full.select_layer, layers=1)):
        with pytest.raises(RequestError, match=words):
            chosen(prompt, budget=budget)


def _flat(budget: int, layers: int, knobs: Any = None) -> Any:
    """Budgets that rise from head to head."""
    count = 2 * layers
    return budget + np.arange(count).reshape(layers, 2) * 2 - count + 1
