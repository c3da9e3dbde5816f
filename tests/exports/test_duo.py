"""`export --to duo`: DuoAttention's files, as its own rule and kvpress's DuoAttentionPress read them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cokv_bench.budgets import HeadBudgets, HeadCurves, embedded, load_head_file
from cokv_bench.errors import LONGEST, RequestError
from cokv_bench.exports import Request
from cokv_bench.exports.duo import two_classes, write
from tests.conftest import random_ids, save_tiny
from tests.exports.made import TOY, shares, with_kvpress


def read(folder: Path) -> tuple[NDArray[np.float64], int, int]:
    """Scores, first and recent tokens, by the words of DuoAttention's README: a row a layer, tabs between its heads."""
    rows = (folder / "full_attention_heads.tsv").read_text().splitlines()
    config = json.loads((folder / "config.json").read_text())
    return np.array([[float(cell) for cell in row.split("\t")] for row in rows]), *(
        config[name] for name in ("sink_size", "recent_size")
    )


def full_heads(scores: NDArray[np.float64], sparsity: float, seed: int) -> NDArray[np.bool_]:
    """DuoAttention's choice: those at the quantile of the sparsity or above, after noise that breaks ties."""
    noisy = scores + np.random.default_rng(seed).uniform(0, 1e-6, scores.shape)
    chosen: NDArray[np.bool_] = noisy >= np.quantile(noisy, sparsity)
    return chosen


@given(
    st.lists(st.integers(12, 600), min_size=2, max_size=30).map(lambda row: np.array([row])),
    st.integers(13, 2000), st.integers(1, 8),
)  # fmt: skip
def test_the_total_is_never_above_and_less_than_a_token_per_head_below(
    tokens: NDArray[np.int64], prompt: int, recent: int
) -> None:
    try:
        classes = two_classes(tokens, prompt=prompt, recent=recent)
    except RequestError:
        total, heads, least = tokens.sum(), tokens.size, 4 + recent
        assert prompt <= least or total >= heads * prompt or total < prompt + (heads - 1) * least
        return
    many = int(classes.full.sum())
    assert 0 <= tokens.sum() - classes.tokens.sum() < tokens.size - many
    assert classes.recent >= recent
    # One more full head would not leave the others their least.
    assert (many + 1) * prompt + (tokens.size - many - 1) * (4 + recent) > tokens.sum()
    assert tokens[classes.full].min() >= tokens[~classes.full].max()


def test_the_files_and_what_is_said_of_them(tmp_path: Path) -> None:
    tokens = np.array([[10, 100], [30, 40], [90, 30]])
    file = HeadBudgets(TOY, 50, 8, tokens, {"text": "by hand", "parameters": {}})
    written = write(Request(file, Path("toy.json"), prompt=100, out=tmp_path / "out"))
    scores, sinks, recent = read(written.path)
    # 300 tokens: two heads keep 100, and 25 are left for each of the other four.
    assert (sinks, recent) == (4, 21)
    assert scores.tolist() == [[0, 1], [0, 0], [1, 0]]
    assert written.notes == (
        "2 of 6 heads keep the whole prompt of 100 tokens; the others keep 4 first and 21 recent tokens. In "
        "DuoAttention's terms the sparsity is 0.666667.",
        "Rounding to two classes keeps 300 tokens where the head file asks for 300: exactly as many. A head's tokens "
        "change by 8.3 on average.",
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out"]
    for seed in range(9):
        assert (full_heads(scores, 4 / 6, seed) == (scores == 1)).all()


def test_curves_say_which_heads_are_best_at_the_length_of_the_prompt(tmp_path: Path) -> None:
    # The first two heads keep more of a prompt that is pruned lightly, the others of one that is pruned by 9 tenths.
    pruned = np.empty((99, 2, 2))
    for place in range(99):
        share, first = (place + 1) / 100, -0.05 if place < 90 else 0.05
        pruned[place] = np.clip([[share + first] * 2, [share - first] * 2], 0, 1)
    curves = HeadCurves({**TOY, "layers": 2, "kv_heads": 2}, pruned, "by hand")
    written = write(Request(curves, Path("c.json"), (300,), 1024, tmp_path / "out"))
    found, _, _ = read(written.path)
    assert found.tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize("prompt", [600, 4096])
def test_the_shipped_shares(prompt: int, tmp_path: Path) -> None:
    path = embedded.shares_path()
    written = write(Request(load_head_file(path), path, (128,), prompt=prompt, out=tmp_path / "out"))
    scores, sinks, recent = read(written.path)
    many, heads = int(scores.sum()), scores.size
    total = many * prompt + (heads - many) * (sinks + recent)
    assert 0 <= 128 * heads - total < heads
    assert f"keeps {total} tokens where the head file asks for 11520" in written.notes[1]
    assert f"the sparsity is {1 - many / heads:.6f}" in written.notes[0]
    assert (full_heads(scores, round(1 - many / heads, 6), 3) == (scores == 1)).all()


def test_kvpress_keeps_the_two_classes(tmp_path: Path) -> None:
    file = shares(TOY)
    folder = write(Request(file, Path("toy.json"), (60,), prompt=150, out=tmp_path / "out")).path
    classes = two_classes(file.tokens_at(60), prompt=150, recent=4)
    model = save_tiny("llama", tmp_path / "model", max_position_embeddings=1024)
    asked: dict[str, Any] = {"model": str(model), "duo": str(folder), "prompt": random_ids(150)}
    (kept,) = with_kvpress({**asked, "sparsity": 1 - classes.full.mean()}, tmp_path)
    np.testing.assert_array_equal(kept, classes.tokens)
    assert 0 <= 60 * 6 - np.sum(kept) < 6


@pytest.mark.parametrize(
    ("budgets", "prompt", "said"),
    [
        ((64,), 64, "holds a prompt of 64 tokens in full"),
        ((16,), 4096, "leaves no head the whole prompt of 4096 tokens .* use --budget 690 or more"),
        ((64, 128), None, "holds one budget, and --budget names 2"),
        ((4,), None, "not above the window of 4"),
        # Of these no budget makes two classes.
        ((64,), 3, "too short for two classes, .* use a --prompt of 10 tokens or more"),
        *(((6,), short, "too short for two classes, .* use a --prompt of 10 tokens or more") for short in (7, 8, 9)),
        # A shorter prompt helps only where the budget is above what the others keep.
        ((8,), 20, "use --budget 10 or more.$"),
        ((9,), 20, "use --budget 10 or more, or a lower --prompt.$"),
    ],
)
def test_what_is_refused(budgets: tuple[int, ...], prompt: int | None, said: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=said) as refused:
        write(Request(shares(TOY), Path("toy.json"), budgets, prompt=prompt, out=tmp_path / "out"))
    assert len(str(refused.value)) <= LONGEST
    assert not list(tmp_path.iterdir())
    # The budget that it names is the least that will do.
    if budgets == (16,):
        write(Request(shares(TOY), Path("toy.json"), (690,), prompt=prompt, out=tmp_path / "out"))
        with pytest.raises(RequestError, match="leaves no head"):
            write(Request(shares(TOY), Path("toy.json"), (689,), prompt=prompt, out=tmp_path / "out"))
