"""The budget file: checked when made, when read and when it meets a model."""

import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

from cokv_bench.budgets import HeadBudgets, from_head_values
from cokv_bench.errors import RequestError

MODEL = {"id": "toy", "layers": 2, "kv_heads": 3, "head_dim": 4, "weights": "ab12"}
RULE = {"text": "CoKV", "parameters": {"zeroed": 2}}
VALUES = np.array([[0.1, 0.2, 0.3], [0.4, 0.7, 0.9]])
BUDGETS = HeadBudgets(
    model=MODEL,
    budget=20,
    window=8,
    tokens=from_head_values(VALUES, 20, window=8, zeroed=2),
    rule=RULE,
    profile_sha256="cd" * 32,
)


@pytest.fixture
def path(tmp_path):
    BUDGETS.save(tmp_path / "toy.budgets.json")
    return tmp_path / "toy.budgets.json"


def edited(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def test_round_trip(path):
    read = HeadBudgets.load(path)
    np.testing.assert_array_equal(read.tokens, BUDGETS.tokens)
    assert read.tokens.dtype == np.int64
    assert read.total == 120
    for name in ("model", "budget", "window", "rule", "profile_sha256"):
        assert getattr(read, name) == getattr(BUDGETS, name)
    data = json.loads(path.read_text())
    assert (data["kind"], data["schema"], data["total"]) == ("head-budgets", 1, 120)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    # Files of earlier versions do not say.
    assert (read.documents, "documents" in data) == ((), False)
    replace(BUDGETS, documents=("text",)).save(path)
    assert HeadBudgets.load(path).documents == ("text",)


def test_protected_first_tokens_are_part_of_what_every_head_keeps(path):
    protecting = replace(BUDGETS, tokens=np.full((2, 3), 20), sinks=4)
    protecting.save(path)
    read = HeadBudgets.load(path)
    assert (read.sinks, json.loads(path.read_text())["sinks"]) == (4, 4)
    np.testing.assert_array_equal(read.tokens_at(20, window=12), read.tokens_at(20))
    told = f"file {path} holds a budget of 20 of which every head keeps a window of 8 and 4 protected first tokens, not"
    # A window alone would leave the first tokens unprotected.
    for asked in (
        {"budget": 20, "window": 8},
        {"budget": 20, "window": 9},
        {"budget": 20, "window": 13},
        {"budget": 21},
    ):
        with pytest.raises(RequestError, match=re.escape(told)):
            read.tokens_at(**asked)
    BUDGETS.save(path)
    assert (HeadBudgets.load(path).sinks, "sinks" in json.loads(path.read_text())) == (0, False)
    with pytest.raises(RequestError, match=r"8 and no protected first tokens, not 20 with 12 such tokens; use its own"):
        HeadBudgets.load(path).tokens_at(20, window=12)
    for sinks in (-1, 13, 2.0):
        with pytest.raises(RequestError, match="protected first tokens do not fit; expected 0 to 12"):
            replace(protecting, sinks=sinks)
    with pytest.raises(RequestError, match="at least the window of 8 and the 10 protected first tokens"):
        replace(BUDGETS, sinks=10)


def test_tokens_cannot_be_changed_afterwards():
    source = np.full((2, 3), 20)
    budgets = replace(BUDGETS, tokens=source)
    source[0, 0] = 0
    assert budgets.tokens[0, 0] == 20
    with pytest.raises(ValueError, match="read-only"):
        budgets.tokens[0, 0] = 1


def test_numpy_integers_are_integers(tmp_path):
    replace(BUDGETS, budget=np.int64(20), window=np.int32(8)).save(tmp_path / "b.json")
    assert HeadBudgets.load(tmp_path / "b.json").budget == 20


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "head-values"}, "is of kind 'head-values'; expected 'head-budgets'"),
        ({"schema": 9}, "schema version 9; this release reads version 1"),
        ({"total": 119}, "'total' is 119; expected 120, the sum of the tokens"),
        ({"tokens": [[20, 20, 20], [20, 20, 19]], "total": 119}, "tokens sum to 119; expected 120"),
        ({"budget": 21}, "tokens sum to 120; expected 126"),
        ({"tokens": [[20, 20], [20, 20], [20, 20]]}, r"'tokens' is 3 x 2 \(layers x KV heads\); expected 2 x 3"),
        ({"tokens": [[20, 20, 20], [20, 20]]}, "'tokens' is 2 x 2 or 3"),
        ({"tokens": [[20, 20, 20], [20, 20.0, 20]]}, "expected integers only"),
        ({"tokens": [[20, 20, 20], [20, True, 39]]}, "expected integers only"),
        ({"tokens": [[20, 20, 20], [20, 2**70, 20]]}, "expected integers only"),
        (
            {"tokens": [[7, 20, 20], [20, 20, 33]]},
            "Layer 0, KV head 0 keeps 7 tokens; expected at least the window of 8",
        ),
        ({"tokens": {}}, "expected a list of lists"),
        ({"window": 21}, "Window 21 and budget 20 do not fit"),
        ({"window": 0}, "Window 0"),
        ({"budget": "20"}, "'budget' is '20'; expected an integer"),
        ({"rule": "cokv"}, "expected an object"),
        ({"rule": {"text": "CoKV"}}, "expected a 'text' and an object 'parameters'"),
        (
            {"rule": {"text": "CoKV", "parameters": {"method": ["cokv"]}}},
            r"The method is \['cokv'\]; expected a text",
        ),
        ({"rule": {"text": "", "parameters": {"kernel": 4}}}, "The kernel is 4; expected a positive odd number"),
        ({"model": {**MODEL, "kv_heads": "3"}}, "has kv_heads '3'; expected a positive integer"),
        ({"model": {"layers": 2}}, "has id None; expected a string"),
        ({"model": {**MODEL, "weights": 5}}, "has weights 5; expected a hash or null"),
    ],
)
def test_each_damage_has_its_sentence(path, changes, told):
    with pytest.raises(RequestError, match=told) as caught:
        HeadBudgets.load(edited(path, **changes))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_pickle_is_not_read(tmp_path):
    (tmp_path / "b.json").write_bytes(pickle.dumps({"tokens": [[1]]}))
    with pytest.raises(RequestError, match="is not a JSON file of kind head-budgets"):
        HeadBudgets.load(tmp_path / "b.json")


def test_the_model_must_be_the_one_the_budgets_were_made_for(path):
    read = HeadBudgets.load(path)
    read.check_model(MODEL)
    read.check_model({**MODEL, "id": "a folder with the same weights"})
    read.check_model({**MODEL, "weights": None})
    with pytest.raises(RequestError, match=r"toy\.budgets\.json is of another model: .*weights ab12 .* weights ff"):
        read.check_model({**MODEL, "weights": "ff"})
    with pytest.raises(RequestError, match="is of another model: it was made for toy, not for other"):
        read.check_model({**MODEL, "id": "other", "weights": None})
    for key in ("layers", "kv_heads", "head_dim"):
        with pytest.raises(
            RequestError, match=r"is of another shape: it is for 2 layers x 3 KV heads of size 4 \(toy\)"
        ):
            read.check_model({**MODEL, key: 7})


def test_only_published_rounding_may_miss_the_total(tmp_path):
    tokens = from_head_values(VALUES, 20, window=8, zeroed=2, published_rounding=True)
    assert tokens.sum() < 120
    with pytest.raises(RequestError, match="expected 120"):
        replace(BUDGETS, tokens=tokens)
    rule = {"text": "CoKV", "parameters": {"zeroed": 2, "published_rounding": True}}
    replace(BUDGETS, tokens=tokens, rule=rule).save(tmp_path / "b.json")
    assert HeadBudgets.load(tmp_path / "b.json").total == tokens.sum()
    with pytest.raises(RequestError, match="expected 120"):
        replace(BUDGETS, tokens=tokens - (tokens > 8), rule=rule)  # two tokens per head are no rounding


def test_a_table_that_is_not_whole_numbers_is_refused():
    with pytest.raises(RequestError, match="of type float64; expected integers"):
        replace(BUDGETS, tokens=np.full((2, 3), 20.0))
    with pytest.raises(RequestError, match=r"shape \[3, 2\]; expected \[2, 3\]"):
        replace(BUDGETS, tokens=np.full((3, 2), 20))
