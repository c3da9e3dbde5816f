"""Logs with a header: every kind refuses other settings in one sentence, and files of earlier releases are resumed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cokv_bench.errors import LONGEST, RequestError
from cokv_bench.game import Ledger, LedgerHeader, Row
from cokv_bench.log import UnfitLogError, check_settings, differences
from cokv_bench.runs.journal import Journal
from cokv_bench.search.ledger import Ends, SearchLedger
from tests.documented import ROOT

MODEL = {"id": "toy-é", "layers": 1, "kv_heads": 2, "head_dim": 4, "weights": None}
SEARCH = {"model": MODEL, "budgets": [16, 32], "seed": 0, "examples": ["a", "b"], "window": 8}
HEADER = LedgerHeader(MODEL, ("needle",), 8, "loglik", 0, ("a", "b"), (1, 2), {"slices": [1]})
CONFIGURATION = {
    "model": MODEL,
    "tasks": {"needle": {"metric": "found"}},
    "methods": ["full"],
    "budgets": [16],
    "window": 8,
    "split": "test",
    "seed": 0,
    "max_length": None,
}


def open_ledger(folder: Path, **changes: Any) -> Ledger:
    return Ledger.open(folder / "ledger.jsonl", LedgerHeader(**{**vars(HEADER), **changes}))


def open_search(folder: Path, **changes: Any) -> SearchLedger:
    return SearchLedger.resume(folder / "search.jsonl", {**SEARCH, **changes})


def open_run(folder: Path, **changes: Any) -> Journal:
    return Journal(folder, {**CONFIGURATION, **changes}, {})


@pytest.mark.parametrize(
    ("start", "path"), [(open_ledger, "ledger.jsonl"), (open_search, "search.jsonl"), (open_run, "")]
)
def test_each_kind_names_every_difference_with_both_values(
    tmp_path: Path, start: Callable[..., Any], path: str
) -> None:
    with start(tmp_path):
        pass
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(UnfitLogError) as refused:
        start(tmp_path, seed=1, window=16)
    told = str(refused.value).removeprefix(f"{tmp_path / path} has other settings: ")
    settings, _, mend = told.rpartition("; ")
    assert set(settings.split("; ")) == {"seed is 0 there and 1 here", "window is 8 there and 16 here"}
    assert mend == "use the same or another folder."
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    with start(tmp_path):  # The lock was given back.
        pass


@pytest.mark.parametrize("length", [3, 60, 5000])
@pytest.mark.parametrize("count", [1, 3, 4, 50])
def test_a_refusal_tells_three_settings_and_how_many_more_in_400_characters(length: int, count: int) -> None:
    names = [f"setting {number}" for number in range(count)]
    found = dict.fromkeys(names, "a" * length + "b")
    with pytest.raises(RequestError) as refused:
        check_settings(Path("profiles/model/needle/ledger.jsonl"), found, dict.fromkeys(names, "a" * length + "c"))
    said = str(refused.value)
    assert len(said) <= LONGEST
    told = [name for name in names if f"{name} is " in said]
    assert told == names[: min(count, 3)]
    assert said.count('b" there and ') == said.count('c" here') == len(told)
    assert (f"and {count - 3} more;" in said) == (count > 3)


def test_a_long_value_is_shown_where_it_differs() -> None:
    found, wanted = ({"examples": [f"id{number}" for number in range(start, 500)]} for start in (0, 0))
    wanted["examples"][250] = "other"
    (told,) = differences(found, wanted)
    there, _, here = told.removeprefix("examples is ").partition(" there and ")
    assert '"id250"' in there
    assert '"other"' in here
    assert len(told) < 170


def test_absent_is_null_and_a_tuple_is_a_list() -> None:
    check_settings(Path("log"), {"a": [1], "b": None}, {"a": (1,), "c": None})


def test_files_of_earlier_releases_are_resumed(tmp_path: Path) -> None:
    # Ledgers had no spaces and no escapes, all others spaces and escapes.
    row = {"k": 0, "slice": 1, "members": "2", "utilities": [0.5, 0.25]}
    lines = [{"kind": "coalition-ledger", "schema": 1, **vars(HEADER)}, row]
    text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
    (tmp_path / "ledger.jsonl").write_text(text)
    with open_ledger(tmp_path) as ledger:
        assert ledger.header == HEADER
        ledger.append([Row(1, 1, ~ledger.coalitions()[0], (1.0, 2.0))])
    assert (tmp_path / "ledger.jsonl").read_text().startswith(text)
    assert Ledger.read(tmp_path / "ledger.jsonl").utilities().tolist() == [[0.5, 0.25], [1.0, 2.0]]

    ends = {"full": [1.0, None], "uniform": {"16": [0.5, None], "32": [0.75, None]}}
    lines = [{"kind": "search-ledger", "schema": 3, **SEARCH}, ends]
    (tmp_path / "search.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with open_search(tmp_path) as search:
        assert search.ends == Ends(**ends)

    record = {"task": "needle", "example": "é", "method": "full", "budget": None, "score": 1.0, "prediction": "\ud800"}
    record |= {**dict.fromkeys(("prompt_tokens", "kept_tokens", "kv_bytes", "new_tokens"), 9), "length": 9}
    record |= {"depth": 0.5, "word_recall": 1.0}
    (tmp_path / "run.json").write_text(json.dumps({"configuration": CONFIGURATION, "versions": {}}))
    (tmp_path / "records.jsonl").write_text(json.dumps(record) + "\n")
    with open_run(tmp_path) as run:
        assert run.done == {("needle", "é", "full", None)}
        run.append([record, {**record, "example": "f"}])
    assert (tmp_path / "records.jsonl").read_text().count("\n") == 2


def test_the_ledger_of_a_committed_search_is_read() -> None:
    search = SearchLedger.read(ROOT / "results" / "search" / "embedded.search.jsonl")
    assert search.rounds
    assert search.settings["budgets"]


def test_another_schema_is_told(tmp_path: Path) -> None:
    (tmp_path / "search.jsonl").write_text('{"kind": "search-ledger", "schema": 2}\n')
    with pytest.raises(RequestError, match=r"schema version 2; this release reads version 3\.$"):
        open_search(tmp_path)


def test_a_run_refused_before_its_first_record_leaves_nothing_and_one_that_ended_stays(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no answer"), open_run(tmp_path / "refused"):
        raise RequestError("no answer")
    assert not (tmp_path / "refused").exists()
    with open_run(tmp_path / "empty"):
        pass
    with pytest.raises(RequestError, match="no answer"), open_run(tmp_path / "empty"):
        raise RequestError("no answer")
    assert (tmp_path / "empty" / "run.json").exists()  # It was there before the refused one began.
