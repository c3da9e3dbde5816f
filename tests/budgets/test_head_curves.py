"""Curves of pruned shares: exact at every budget and prompt, imported without a pickle, and exported from any file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench.budgets import HeadBudgets, HeadCurves, HeadScores, HeadShares, HeadValues, embedded, load_head_file
from cokv_bench.budgets.importers import Layout, convert
from cokv_bench.errors import RequestError
from cokv_bench.exports.kvpress import pruned_shares, write_curves
from cokv_bench.policies.deployed import kept_by_all

MODEL = {"id": "toy", "layers": 2, "kv_heads": 3, "head_dim": 4, "weights": None}


def toy_curves(seed: int = 0) -> HeadCurves:
    """Curves whose mean is the percent, as published ones: some heads prune early, others late."""
    eager = np.random.default_rng(seed).uniform(0.3, 0.95, size=(2, 3))
    rows = []
    for percent in range(1, 100):
        share = percent / 100
        # A head that is eager prunes more than its part, and all together exactly theirs.
        lean = np.clip(eager - eager.mean(), -0.3, 0.3) * 4 * share * (1 - share)
        rows.append(share + lean - lean.mean())
    return HeadCurves(MODEL, np.clip(np.array(rows), 0, 1), "by hand")


CURVES = toy_curves()


def slow_kept(curves: HeadCurves, layer: int, head: int, share: float) -> float:
    """The kept share of one head: a straight line between the two percents next to it."""
    known = {0: 0.0, 100: 1.0, **{i + 1: float(curves.pruned[i, layer, head]) for i in range(99)}}
    percent = 100 * (1 - share)
    below = max(each for each in known if each <= percent)
    above = min(each for each in known if each >= percent)
    part = 0.0 if above == below else (percent - below) / (above - below)
    return 1 - (known[below] + part * (known[above] - known[below]))


@given(st.integers(1, 12), st.integers(1, 400), st.integers(20, 500))
def test_totals_are_exact_for_every_budget_and_prompt(window: int, beyond: int, prompt: int) -> None:
    budget = window + beyond
    tokens = CURVES.tokens_at(budget, window=window, knobs={"prompt": prompt})
    assert tokens.sum() == budget * 6
    assert tokens.min() >= window
    assert tokens.max() <= max(budget, prompt)


@given(st.integers(100, 3000), st.floats(0.2, 0.9))
def test_a_head_keeps_its_share_of_the_prompt(prompt: int, share: float) -> None:
    budget = round(share * prompt)
    tokens = CURVES.tokens_at(budget, window=1, knobs={"prompt": prompt})
    for layer, head in np.ndindex(2, 3):
        ideal = slow_kept(CURVES, layer, head, budget / prompt) * prompt
        assert abs(tokens[layer, head] - ideal) < 1.5
    assert CURVES.kept(1).min() == 1
    np.testing.assert_array_equal(CURVES.kept(0.75), 1 - CURVES.pruned[24])


def test_a_file_says_what_it_is_and_is_checked(tmp_path: Path) -> None:
    CURVES.save(tmp_path / "a.curves.json")
    read = load_head_file(tmp_path / "a.curves.json")
    assert isinstance(read, HeadCurves)
    np.testing.assert_array_equal(read.pruned, CURVES.pruned)
    assert (read.method, read.only_budget, read.ranking, read.source) == ("curves", None, {}, "by hand")
    np.testing.assert_array_equal(read.tokens_at(64), CURVES.budgets(64, window=8, prompt=4096))
    with pytest.raises(RequestError, match="8 tokens per head is not above the window of 8"):
        read.tokens_at(8)
    content = json.loads((tmp_path / "a.curves.json").read_text())
    for change, said in (
        (lambda table: table[:50], "a list of 99 tables"),
        (lambda table: [[[2.0] * 3] * 2] * 99, "shares from 0 to 1"),
        (lambda table: table[::-1], "pruned shares, not kept ones"),
        (lambda table: [[row[:2] for row in rows] for rows in table], r"2 x 2 \(layers x KV heads\)"),
    ):
        (tmp_path / "b.json").write_text(json.dumps({**content, "pruned": change(content["pruned"])}))
        with pytest.raises(RequestError, match=said) as raised:
            load_head_file(tmp_path / "b.json")
        assert "b.json" in str(raised.value)


def test_curves_are_imported_and_exported_as_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "ea_avg.npy", CURVES.pruned)
    result = convert([tmp_path / "ea_avg.npy"], model="toy", layout=Layout(head_dim=4), folder=tmp_path / "made")
    ((path, made),) = result.files
    assert path == tmp_path / "made" / "ea_avg.curves.json"
    assert isinstance(made, HeadCurves)
    assert made.model == MODEL
    assert "imported from ea_avg.npy (sha256 " in made.source
    write_curves(load_head_file(path), tmp_path / "back.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "back.npy", allow_pickle=False), CURVES.pruned)


def test_published_layouts_are_known_by_shape_and_name(tmp_path: Path) -> None:
    shares = np.broadcast_to(np.arange(1, 100)[:, None, None] / 100, (99, 32, 8)).astype(np.float32)
    np.save(tmp_path / "Meta-Llama-3-8B-Instruct.npy", shares)
    ((_, made),) = convert([tmp_path / "Meta-Llama-3-8B-Instruct.npy"], folder=tmp_path).files
    assert (made.model["id"], made.model["head_dim"]) == ("meta-llama/Meta-Llama-3-8B-Instruct", 128)


@pytest.mark.parametrize(
    ("array", "options", "said"),
    [
        (np.zeros((98, 2, 3)), {}, r"\[98, 2, 3\] of float64; expected one .* or LU-KV's curves, floats \[99"),
        (np.zeros((99, 2, 3), dtype=np.int32), {}, "of int32; expected .* LU-KV's curves"),
        (np.zeros((99, 6)), {}, "expected .* LU-KV's curves"),
        (np.full((99, 2, 3), np.nan), {}, "shares from 0 to 1"),
        (CURVES.pruned[::-1], {}, "pruned shares, not kept ones"),
        (np.zeros((99, 2, 3)), {}, "do not rise with the percent that is pruned"),
        (np.full((99, 2, 3), 0.5), {}, "do not rise with the percent that is pruned"),
        (CURVES.pruned, {"layout": Layout()}, "2 layers x 3 KV heads are of no known model; give .*--head-dim"),
        (CURVES.pruned, {"layout": Layout(layers=3, head_dim=4)}, "There are 2 layers x 3 KV heads, not 3 x 3"),
        (CURVES.pruned, {"task": "trec"}, "LU-KV curves, which belong to no single task"),
        (CURVES.pruned, {"model": None}, "give its id with --model"),
    ],
)
def test_what_is_no_file_of_curves(tmp_path: Path, array: Any, options: Any, said: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(RequestError, match=said) as refused:
        convert([tmp_path / "a.npy"], **{"model": "toy", "layout": Layout(head_dim=4), "folder": tmp_path, **options})
    # Many files may be named at once.
    assert "a.npy" in str(refused.value)
    assert len(str(refused.value)) <= 400
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", CURVES.pruned)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-8])
    with pytest.raises(RequestError, match="bytes, which do not fit"):
        convert([tmp_path / "a.npy"], model="toy", layout=Layout(head_dim=4), folder=tmp_path)


@pytest.mark.parametrize("maker", [embedded.values_path, embedded.scores_path, embedded.shares_path])
@pytest.mark.parametrize("prompt", [500, 4096])
def test_any_file_becomes_curves_that_mean_the_same_tokens(maker: Any, prompt: int, tmp_path: Path) -> None:
    file = load_head_file(maker())
    assert isinstance(file, HeadValues | HeadScores | HeadShares)
    shares = pruned_shares(file, prompt=prompt)
    assert shares.shape == (99, 30, 3)
    percents = np.arange(1, 100) / 100
    np.testing.assert_allclose(shares.mean(axis=(1, 2)), percents, atol=0.5 / prompt / 90 + 1e-12)
    np.save(tmp_path / "a.npy", shares)
    ((_, made),) = convert([tmp_path / "a.npy"], model="toy", layout=Layout(head_dim=64), folder=tmp_path).files
    window = kept_by_all(file).tokens
    for percent in (50, 75, 90, 95):
        budget = round(prompt * (100 - percent) / 100)
        wanted = file.tokens_at(budget, window=window)
        # No head keeps more than the prompt.
        if wanted.max() > prompt:
            continue
        found = made.tokens_at(budget, window=window, knobs={"prompt": prompt})
        assert found.sum() == wanted.sum()
        assert abs(found - wanted).max() <= 1 + abs(budget - prompt * (100 - percent) / 100) * wanted.max() / budget


def test_a_budget_file_splits_every_total_in_its_own_proportions() -> None:
    tokens = np.array([[10, 20, 30], [40, 8, 12]])
    file = HeadBudgets(MODEL, 20, 8, tokens, {"text": "by hand", "parameters": {}})
    shares = pruned_shares(file, prompt=1000)
    beyond = (1 - shares[79]) * 1000 - 8  # 200 tokens per head
    np.testing.assert_allclose(beyond, (tokens - 8) / 72 * 192 * 6, atol=1)
    # One percent of a short prompt does not hold everybody's window.
    np.testing.assert_allclose((1 - pruned_shares(file, prompt=100)[98]) * 100, 1)
    with pytest.raises(RequestError, match="A prompt of 8 tokens is not above the window of 8"):
        pruned_shares(file, prompt=8)
