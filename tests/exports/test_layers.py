"""`export --to layers`: a plain list whose total is that of the head file."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench.budgets import HeadBudgets, HeadCurves, embedded, load_head_file
from cokv_bench.errors import RequestError
from cokv_bench.exports import Request
from cokv_bench.exports.layers import layer_budgets, write
from cokv_bench.policies.deployed import kept_by_all
from tests.exports.made import TOY, shares


@given(st.integers(1, 6), st.integers(1, 9), st.integers(5, 500), st.integers(0, 99))
def test_each_layer_is_its_mean_to_within_a_token_and_the_total_is_exact(
    kv_heads: int, layers: int, budget: int, seed: int
) -> None:
    file = shares({**TOY, "layers": layers, "kv_heads": kv_heads}, seed=seed)
    tokens = file.tokens_at(budget)
    found = layer_budgets(tokens)
    assert found.sum() == budget * layers
    for number, row in zip(found.tolist(), tokens.tolist(), strict=True):
        assert abs(number - Fraction(sum(row), kv_heads)) < 1


@pytest.mark.parametrize("maker", [embedded.values_path, embedded.scores_path, embedded.shares_path])
def test_shipped_files(maker: object, tmp_path: Path) -> None:
    path = maker()  # type: ignore[operator]
    file = load_head_file(path)
    written = write(Request(file, path, out=tmp_path / "list.json"))
    found = json.loads(written.path.read_text())
    assert all(isinstance(each, int) for each in found)
    assert (len(found), sum(found)) == (30, 128 * 30)
    np.testing.assert_allclose(found, file.tokens_at(128, window=kept_by_all(file).tokens).mean(axis=1), atol=1)
    assert "11520 in all where the head file asks for 11520" in written.notes[0]


def test_what_is_said_and_refused(tmp_path: Path) -> None:
    tokens = np.array([[10, 20], [30, 41], [9, 10]])
    file = HeadBudgets(TOY, 20, 8, tokens, {"text": "by hand", "parameters": {}})
    written = write(Request(file, Path("toy.json"), out=tmp_path / "list.json"))
    # Means of 15, 35.5 and 9.5: of equal remainders the earlier layer has the token.
    assert json.loads(written.path.read_text()) == [15, 36, 9]
    assert written.notes == (
        "The layers keep 9 to 36 tokens per KV head, 120 in all where the head file asks for 120; a head's tokens "
        "change by 3.7 on average.",
    )
    for request, said in (
        (Request(file, Path("toy.json"), (24,)), "holds a budget of 20"),
        (Request(file, Path("toy.json"), (20, 24)), "holds one budget, and --budget names 2"),
        (Request(file, Path("toy.json"), prompt=99), "does not depend on --prompt"),
    ):
        with pytest.raises(RequestError, match=said):
            write(request)


def test_lists_of_curves_are_for_a_prompt(tmp_path: Path) -> None:
    pruned = np.linspace(0.01, 0.99, 99)[:, None, None] ** np.array([[0.5, 0.7], [1.0, 1.0], [2.0, 1.5]])
    file = HeadCurves({**TOY, "kv_heads": 2}, pruned, "by hand")
    for prompt in (None, 512):
        written = write(Request(file, Path("toy.json"), prompt=prompt, out=tmp_path / "list.json"))
        tokens = file.tokens_at(128, knobs={} if prompt is None else {"prompt": prompt})
        assert json.loads(written.path.read_text()) == layer_budgets(tokens).tolist()
        assert f"a prompt of {prompt or 4096} tokens (--prompt)" in written.notes[1]
