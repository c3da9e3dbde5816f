"""Head files of all kinds: one loader, one protocol, what is none of them, and old files read as before."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cokv_bench.budgets import HeadBudgets, HeadScores, HeadShares, HeadValues, embedded, load_head_file
from cokv_bench.budgets.head_file import RULE_KNOBS
from cokv_bench.budgets.knobs import Knobs
from cokv_bench.errors import RequestError

VALUES = HeadValues.load(embedded.values_path())
SCORES = HeadScores.load(embedded.scores_path())
SHARES = HeadShares.load(embedded.shares_path())


def budgets_file(path: Path, method: str | None = "cokv-search") -> HeadBudgets:
    parameters = {"kernel": 5, "pooling": "avg"} | ({"method": method} if method else {})
    tokens = np.full((30, 3), 40)
    tokens[0] = 60, 20, 40
    made = HeadBudgets(VALUES.model, 40, 16, tokens, {"text": "by hand", "parameters": parameters}, tasks=("needle",))
    made.save(path)
    return made


@pytest.mark.parametrize("path", [embedded.values_path(), embedded.scores_path(), embedded.shares_path()])
def test_files_for_any_budget(path: Path) -> None:
    file = load_head_file(path)
    assert file.only_budget is None
    assert file.model["layers"] == 30
    assert file.tasks
    assert file.examples
    for budget, window in ((64, None), (128, 8)):
        tokens = file.tokens_at(budget, window=window)
        assert tokens.shape == (30, 3)
        assert tokens.sum() == budget * 90
    assert all(isinstance(line, str) for line in file.describe().values())
    assert file.method in RULE_KNOBS
    assert file.knobs == RULE_KNOBS[file.method]


def test_each_kind_counts_by_its_own_rule() -> None:
    values, scores, shares = (load_head_file(embedded.SHIPPED[name]()) for name in ("cokv", "headkv", "cokv-search"))
    at = {"budget": 64, "window": 16}
    # Of the knobs each reads its own.
    told = {"alpha": 5, "beta": 3.0, "kernel": 3}
    np.testing.assert_array_equal(values.tokens_at(**at, knobs=told), VALUES.budgets(**at, zeroed=5))
    np.testing.assert_array_equal(scores.tokens_at(**at, knobs=told), SCORES.budgets(**at, beta=3.0))
    np.testing.assert_array_equal(shares.tokens_at(**at, knobs=told), SHARES.budgets(**at))
    np.testing.assert_array_equal(values.tokens_at(64), VALUES.budgets(64, window=VALUES.window))
    np.testing.assert_array_equal(scores.tokens_at(64), SCORES.budgets(64, window=8))
    np.testing.assert_array_equal(shares.tokens_at(64), SHARES.budgets(64, window=SHARES.window))
    rounded = values.tokens_at(**at, published_rounding=True)
    np.testing.assert_array_equal(rounded, VALUES.budgets(**at, published_rounding=True))
    assert (values.ranking, scores.ranking) == ({}, {})
    pooled = {"window": SHARES.window, "kernel": SHARES.kernel, "pooling": SHARES.pooling}
    assert shares.ranking == {**pooled, "scorer": SHARES.scorer}
    assert list(values.measured) == ["head value", "standard error"]
    assert (list(scores.measured), list(shares.measured)) == (["head score"], [])


def test_a_budget_file_has_its_own_budget_alone(tmp_path: Path) -> None:
    made = budgets_file(tmp_path / "b.json")
    file = load_head_file(tmp_path / "b.json")
    assert (file.method, file.only_budget, file.knobs) == ("cokv-search", 40, {})
    assert file.ranking == {"window": 16, "kernel": 5, "pooling": "avg"}
    np.testing.assert_array_equal(file.tokens_at(40, window=16, knobs={"alpha": 3}), made.tokens)
    for budget, window in ((41, None), (40, 8)):
        with pytest.raises(
            RequestError, match=r"b\.json holds a budget of 40 of which every head keeps a window of 16"
        ):
            file.tokens_at(budget, window=window)
    budgets_file(tmp_path / "any.json", None)
    assert load_head_file(tmp_path / "any.json").method is None


def test_a_folder_stands_for_its_values_or_shares(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"neither values\.json nor shares\.json"):
        load_head_file(tmp_path)
    shutil.copy(embedded.shares_path(), tmp_path / "shares.json")
    assert load_head_file(tmp_path).method == load_head_file(str(tmp_path)).method == "cokv-search"
    shutil.copy(embedded.values_path(), tmp_path / "values.json")
    assert load_head_file(tmp_path).method == "cokv"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "of kind None; a head file is of kind head-budgets, head-values, head-scores, head-shares"),
        ('{"kind": "knobs"}', "of kind 'knobs'"),
        ('{"kind": ["head-values"]}', "of kind"),
        ("[1]", "of kind None"),
        ("{", "is not a JSON file on heads"),
        ('{"kind": "head-values", "schema": 9}', "schema version 9"),
    ],
)
def test_what_is_no_head_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RequestError, match=said) as raised:
        load_head_file(tmp_path / "a.json")
    assert str(tmp_path / "a.json") in str(raised.value)
    with pytest.raises(RequestError, match="Cannot read the head file"):
        load_head_file(tmp_path / "none.json")


def test_the_shipped_knobs_are_written_as_they_were(tmp_path: Path) -> None:
    knobs = Knobs.load(embedded.knobs_path())
    every = [tried for tuning in knobs.benchmarks.values() for tried in tuning.curves["cokv"][64]]
    assert any("alpha" in each.options for each in every)
    assert not any("zeroed" in each.options for each in every)
    knobs.save(tmp_path / "knobs.json")
    assert json.loads((tmp_path / "knobs.json").read_text()) == json.loads(embedded.knobs_path().read_text())
    # The name of today is read as well.
    (tmp_path / "new.json").write_text(embedded.knobs_path().read_text().replace('"zeroed"', '"alpha"'))
    assert Knobs.load(tmp_path / "new.json") == knobs
