"""Budgets that the published code of CoKV and HeadKV gives for the published scores."""

import json

import numpy as np
import pytest

from cokv_bench.budgets import from_head_scores, from_head_values
from tests.golden.places import PIECES, SHARED, place, whole

FOLDER = place("policies")
CASES = [case for case in json.loads((FOLDER / "index.json").read_text())["cases"] if case["kind"] == "budget"]


def of_family(family):
    cases = [case for case in CASES if case["family"] == family]
    return pytest.mark.parametrize("case", cases, ids=[case["id"] for case in cases])


def scores_of(case):
    home = PIECES if FOLDER.is_relative_to(PIECES) else SHARED
    return np.load(home / case["params"]["scores_file"])


@of_family("cokv_budget")
def test_cokv(case):
    parameters, arrays, published = case["params"], np.load(FOLDER / case["file"]), scores_of(case)
    sizes, unused = arrays["size_excl_window"], arrays["unused_tokens"]
    value = sum(published["cc_left"][row] / published["count_left"][row] for row in parameters["rows"])
    values = value.reshape(sizes.shape[2:])  # [layers, kv_heads]
    window = parameters["window"]
    for b, budget in enumerate(parameters["budgets"]):
        for a, zeroed in enumerate(parameters["alphas_kth"]):
            arguments = {"budget": budget, "window": window, "zeroed": zeroed}
            official = from_head_values(values, published_rounding=True, **arguments)
            np.testing.assert_array_equal(official - window, sizes[b, a])
            ours = from_head_values(values, **arguments)
            assert ours.sum() == budget * values.size
            assert (ours - official).sum() == unused[b, a]
            assert set(np.unique(ours - official)) <= {0, 1}  # truncation loses less than a token in any head


@of_family("headkv_budget")
def test_headkv(case):
    parameters, arrays = case["params"], np.load(FOLDER / case["file"])
    sizes = arrays["size_excl_window"]
    scores = scores_of(case)["mean"] if "scores_file" in parameters else arrays["head_scores"].mean(axis=-1)
    # The published temperature: a power of the normalised scores, here applied before the rule.
    scores = (scores / scores.sum()) ** parameters.get("temp", 1)
    kv_heads, window = sizes.shape[-1], parameters["window"]
    for e, beta in enumerate(parameters["betas"]):
        for b, budget in enumerate(parameters["budgets"]):
            arguments = {"budget": budget, "window": window, "beta": beta, "kv_heads": kv_heads}
            official = from_head_scores(scores, published_rounding=True, **arguments)
            np.testing.assert_array_equal(official - window, sizes[e, b])
            ours = from_head_scores(scores, **arguments)
            assert ours.sum() == budget * ours.size
            assert np.abs(ours - official).max() <= 1  # both round the same real number up or down


@whole("policies")
def test_all_thirty_cases_are_here():
    assert len(CASES) == 30
