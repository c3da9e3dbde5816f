"""The file of head values."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cokv_bench.budgets import HeadValues
from cokv_bench.errors import RequestError

MODEL = {"id": "toy", "layers": 2, "kv_heads": 3, "head_dim": 4, "weights": "ab12"}
VALUES = HeadValues(
    values=np.array([[0.1, 1 / 3, -2.0], [1e-300, 5, 6]]),
    standard_errors=np.array([[0.1, np.inf, np.nan], [0.0, 1, 2]]),
    estimator="ssv",
    samples=40,
    seed=3,
    utility="loglik",
    window=8,
    tasks=("needle",),
    examples=("aa", "bb"),
    model=MODEL,
    ledger_sha256="ff" * 32,
)


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "values.json"
    VALUES.save(path)
    read = HeadValues.load(path)
    np.testing.assert_array_equal(read.values, VALUES.values)
    np.testing.assert_array_equal(read.standard_errors, [[0.1, np.nan, np.nan], [0.0, 1, 2]])
    for name in ("estimator", "samples", "seed", "utility", "window", "tasks", "examples", "model", "ledger_sha256"):
        assert getattr(read, name) == getattr(VALUES, name)
    assert [p.name for p in path.parent.iterdir()] == ["values.json"]
    assert read.documents == ()
    told = replace(VALUES, documents=("text", "other"))
    told.save(path)
    assert HeadValues.load(path).documents == ("text", "other")
    unknown = replace(VALUES, seed=None, ledger_sha256=None)
    unknown.save(path)
    assert HeadValues.load(path).seed is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": 2}, "has schema version 2; this release reads version 1"),
        ({"schema": True}, "has schema version True"),
        ({"kind": "head-budgets"}, "is of kind 'head-budgets'; expected 'head-values'"),
        ({"values": [[1, 2, 3]]}, r"'values' is 1 x 3 \(layers x KV heads\); expected 2 x 3"),
        ({"values": [[1, 2, 3], [1, 2]]}, r"'values' is 2 x 2 or 3"),
        ({"values": [[1, 2, 3], [1, 2, None]]}, "'values' is .*; expected finite numbers only"),
        ({"values": [[1, 2, 3], [1, 2, True]]}, "expected finite numbers only"),
        ({"values": [[1, 2, 3], [1, 2, 10**400]]}, "expected finite numbers only"),
        ({"values": 3}, "expected a list of lists"),
        ({"standard_errors": [[1, 2, 3], [1, 2, -1]]}, "A standard error is -1.0"),
        ({"standard_errors": [[1, 2, 3], [1, 2, "x"]]}, r"null where unknown"),
        ({"samples": "40"}, "'samples' is '40'; expected an integer"),
        ({"samples": 1.5}, "expected an integer"),
        ({"tasks": "needle"}, "expected a list of strings"),
        ({"model": None}, "'model' is None; expected an object"),
        ({"model": {**MODEL, "layers": 0}}, "has layers 0; expected a positive integer"),
        ({"estimator": 1}, "expected a string"),
    ],
)
def test_each_damage_has_its_sentence(tmp_path, change, told):
    path = tmp_path / "values.json"
    VALUES.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RequestError, match=told) as caught:
        HeadValues.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["model", "values", "standard_errors", "estimator", "samples", "examples", "window"])
def test_a_missing_field_is_named(tmp_path, field):
    path = tmp_path / "values.json"
    VALUES.save(path)
    data = json.loads(path.read_text())
    del data[field]
    path.write_text(json.dumps(data))
    with pytest.raises(RequestError, match=f"'{field}' is missing"):
        HeadValues.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\x80\x04\x95", b'{"values": NaN}', b"\xff\xfe", b"[" * 100000])
def test_what_is_not_json(tmp_path, content):
    path = tmp_path / "values.json"
    path.write_bytes(content)
    with pytest.raises(RequestError, match="is not a JSON file of kind head-values"):
        HeadValues.load(path)


def test_a_list_and_a_missing_file(tmp_path):
    path = tmp_path / "values.json"
    path.write_text("[1]")
    with pytest.raises(RequestError, match="holds a JSON list"):
        HeadValues.load(path)
    with pytest.raises(RequestError, match=r"Cannot read .*none\.json: No such file"):
        HeadValues.load(tmp_path / "none.json")


def test_values_that_cannot_be_used_are_refused_when_made():
    with pytest.raises(RequestError, match=r"layer 0, KV head 1 is nan; .*sample more coalitions"):
        replace(VALUES, values=np.array([[0, np.nan, 0], [0, 0, 0]]))
    with pytest.raises(RequestError, match=r"shape \[3, 2\]; expected \[2, 3\]"):
        replace(VALUES, values=np.zeros((3, 2)))


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "values.json"
    VALUES.save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        replace(VALUES, model={**MODEL, "extra": object()}).save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
