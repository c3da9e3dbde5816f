"""Who is dealt where: all examples of a document on one side, and draws that stay what they were."""

import json
from collections import Counter
from pathlib import Path

import pytest

from cokv_bench.budgets import HeadShares, HeadValues
from cokv_bench.budgets.embedded import values_path
from cokv_bench.models import Model
from cokv_bench.runs.journal import read_records
from cokv_bench.tasks.base import (
    PROFILE_SHARE,
    REPORT_SHARE,
    Example,
    Split,
    content_id,
    in_profile_split,
    side_of,
    split_rule,
)
from cokv_bench.tasks.longbench import LongBenchTask
from cokv_bench.tasks.registry import TaskOptions, resolve
from cokv_bench.tasks.rows.jsonl import JsonlTask

SPLITS: tuple[Split, ...] = ("profile", "test", "report")
RESULTS = Path(__file__).resolve().parents[2] / "results"


def test_documents_are_dealt_in_the_stated_shares() -> None:
    counts = Counter(side_of(content_id(str(i))) for i in range(4000))
    assert counts["profile"] / 4000 == pytest.approx(PROFILE_SHARE, abs=0.02)
    assert counts["report"] / 4000 == pytest.approx(REPORT_SHARE, abs=0.02)
    assert set(counts) == set(SPLITS)
    for i in range(200):
        assert (side_of(str(i), seed=3) == "profile") == in_profile_split(str(i), seed=3)
        assert side_of(str(i), profile_share=1) == "profile"


def test_all_questions_about_a_document_are_on_one_side(tmp_path: Path) -> None:
    path = tmp_path / "meetings.jsonl"
    rows = [
        {"input": f"Question {q} about {d}?", "context": f"Meeting {d}.", "answers": ["yes"]}
        for q in range(12)
        for d in range(30)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = JsonlTask(path)
    sides = {split: {example.document for example in task.examples(split)} for split in SPLITS}
    assert sum(map(len, sides.values())) == len(set().union(*sides.values())) == 30
    assert all(sides.values())
    assert all(len(task.examples(split)) == 12 * len(sides[split]) for split in SPLITS)
    assert {example.document for example in task.examples("all")} == {content_id(f"Meeting {d}.") for d in range(30)}
    assert task.documents() == {example.id: example.document for example in task.examples("all")}
    assert JsonlTask(path, limit=2).documents() == task.documents()


def test_rows_without_a_context_are_dealt_by_their_input(tmp_path: Path) -> None:
    path = tmp_path / "shots.jsonl"
    path.write_text("".join(json.dumps({"input": f"Q{i}", "context": " ", "answers": ["a"]}) + "\n" for i in range(60)))
    task = JsonlTask(path)
    assert all(task.examples(split) for split in SPLITS)
    assert {example.document for example in task.examples("all")} == {content_id(f"Q{i}") for i in range(60)}


def test_an_example_that_shares_nothing_is_its_own_document() -> None:
    assert Example("id", "task", "prompt", (), 1).document == "id"
    assert Example("id", "task", "prompt", (), 1, document="text").document == "text"


def test_configurations_say_how_rows_are_dealt(texty: Model, tmp_path: Path) -> None:
    rows = JsonlTask(tmp_path / "rows.jsonl")
    needle, vt = resolve(["needle", "ruler/vt"], texty, TaskOptions(lengths=(900,)))
    assert split_rule([needle, rows]) == {"split_rule": "document"}
    # Made examples are dealt as they always were.
    assert split_rule([needle, vt]) == {}


def test_real_rows_of_a_text_are_on_one_side(shared: Path) -> None:
    for names in (["qmsum"], ["hotpotqa", "hotpotqa_e"], ["trec", "trec_e"]):
        sides: dict[str, set[str]] = {}
        for name in names:
            task = LongBenchTask(name, data_dir=shared / "longbench")
            for split in SPLITS:
                for example in task.examples(split):
                    sides.setdefault(example.document, set()).add(split)
        assert all(len(side) == 1 for side in sides.values())
    assert len(sides) > 20


def ids_of(folder: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for record in read_records(RESULTS / folder):
        found.setdefault(record["task"], set()).add(record["example"])
    return found


@pytest.mark.model
def test_needles_and_ruler_are_those_of_committed_results(embedded: Model) -> None:
    (needle,) = resolve(["needle"], embedded, TaskOptions(lengths=(1024,), examples=20))
    assert {e.id for e in needle.examples("test")} <= ids_of("search/needle")["needle"]
    (profiled,) = resolve(["needle"], embedded, TaskOptions(lengths=(1024,), examples=16))
    assert {e.id for e in profiled.examples("profile")} == set(HeadValues.load(values_path()).examples)
    names = [f"ruler/{name}" for name in ("niah_multikey_1", "niah_multikey_3", "vt", "cwe", "fwe")]
    recorded, searched = ids_of("search/ruler"), HeadShares.load(RESULTS / "search" / "ruler.shares.json").examples
    for task in resolve(names, embedded, TaskOptions(lengths=(2048,), examples=3)):
        assert {e.id for e in task.examples("test")} == recorded[task.name]
        assert {e.id for e in task.examples("profile")} <= set(searched)
        assert {e.document for e in task.examples("report")}.isdisjoint({*recorded[task.name], *searched})
