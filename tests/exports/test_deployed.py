"""Every target, head maps and the budget files of a search count the tokens that `eval` has without options."""

import json
from pathlib import Path

import numpy as np
import pytest

from cokv_bench.budgets import HeadBudgets, HeadFile, HeadScores, HeadValues
from cokv_bench.exports import Request
from cokv_bench.exports.custom_generate import heads_of, policy_of
from cokv_bench.exports.duo import write as write_duo
from cokv_bench.exports.kvpress import pruned_shares
from cokv_bench.exports.layers import layer_budgets
from cokv_bench.exports.layers import write as write_layers
from cokv_bench.policies.deployed import kept_by_all
from cokv_bench.report.heads import head_map
from cokv_bench.search.search import budget_file
from tests.exports.made import TOY, shares

BUDGET, PROMPT = 32, 3200
UNEVEN = np.array([[20, 44], [32, 32], [22, 42]])
VALUES = HeadValues(
    np.arange(6.0).reshape(3, 2), np.ones((3, 2)), estimator="ssv", samples=1, seed=0, utility="loglik", window=16,
    tasks=(), examples=(), model=TOY,
)  # fmt: skip
FILES: dict[str, tuple[HeadFile, tuple[int, int]]] = {
    "shares": (shares(TOY), (4, 0)),
    "first tokens": (shares(TOY, scorer="window:sinks=4"), (4, 4)),
    "fading": (shares(TOY, scorer="fading:observe=32:sinks=3"), (4, 3)),
    "a window of its own": (shares(TOY, scorer="fading:window=6"), (6, 0)),
    # Profiled with a window of 16, deployed with the published one.
    "values": (VALUES, (8, 0)),
    "scores": (HeadScores({**TOY, "heads": 6}, np.arange(18.0).reshape(3, 6), "by hand", (), ()), (8, 0)),
    "budgets": (HeadBudgets(TOY, BUDGET, 8, UNEVEN, {"text": "by hand", "parameters": {}}), (8, 0)),
    "budgets with first tokens": (
        HeadBudgets(TOY, BUDGET, 8, UNEVEN, {"text": "by hand", "parameters": {}}, sinks=4),
        (8, 4),
    ),
    "budgets of a search": (budget_file(shares(TOY, scorer="window:sinks=4"), BUDGET), (4, 4)),
}


@pytest.mark.parametrize("name", FILES)
def test_all_that_counts_tokens_agrees(name: str, tmp_path: Path) -> None:
    file, (window, sinks) = FILES[name]
    policy, kept = policy_of(file), kept_by_all(file)
    assert (kept.window, kept.sinks) == (policy.window, policy.sinks) == (window, sinks)
    wanted = np.asarray(policy.allocator.budgets(BUDGET))  # type: ignore[union-attr]
    assert wanted.min() >= window + sinks
    assert len(np.unique(wanted)) > 2

    np.testing.assert_array_equal(head_map("it", file).tokens(BUDGET), wanted)
    layers = write_layers(Request(file, Path("toy.json"), (BUDGET,), out=tmp_path / "layers.json"))
    assert json.loads(layers.path.read_text()) == layer_budgets(wanted).tolist()
    curve = pruned_shares(file, prompt=PROMPT)[98]  # 99 percent pruned: 32 tokens per head
    np.testing.assert_allclose((1 - curve) * PROMPT, wanted, atol=1e-6)
    told = heads_of(Request(file, Path("toy.json"), (BUDGET,)))
    assert (told["ranking"]["window"], told["ranking"]["sinks"]) == (window, sinks)
    if "tokens" in told:
        assert told["tokens"] == {str(BUDGET): wanted.tolist()}
    duo = write_duo(Request(file, Path("toy.json"), (BUDGET,), prompt=80, out=tmp_path / "duo"))
    full = np.loadtxt(duo.path / "full_attention_heads.tsv") == 1
    assert full.any()
    assert wanted[full].min() >= wanted[~full].max()
    assert json.loads((duo.path / "config.json").read_text())["recent_size"] >= window


def test_shares_and_the_budget_file_of_their_search_are_exported_alike() -> None:
    (searched, _), (counted, _) = FILES["first tokens"], FILES["budgets of a search"]
    for prompt in (200, PROMPT):
        curves = [pruned_shares(file, prompt=prompt)[-1 if prompt == PROMPT else 83] for file in (searched, counted)]
        np.testing.assert_allclose(*curves, atol=1e-9)
