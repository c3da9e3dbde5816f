"""A run is not resumed with other answers; runs of earlier versions, which have no hash of them, are resumed."""

import json
from pathlib import Path
from typing import Any

import pytest

from cokv_bench.errors import RequestError
from cokv_bench.models import Model
from cokv_bench.runs.contents import as_kept, naming
from cokv_bench.runs.execute import execute
from cokv_bench.runs.plan import Plan
from cokv_bench.runs.request import plan_request
from cokv_bench.tasks.options import TaskOptions
from tests.requests import request_of


def longbench(folder: Path, answer: str) -> tuple[str, TaskOptions]:
    row = {"answers": [answer], "length": 10, "all_classes": None}
    rows = [{"input": f"q{i}?", "context": f"context {i} " * 5, **row} for i in range(3)]
    (folder / "hotpotqa.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return "longbench/hotpotqa", TaskOptions(data_dir=folder, limit=1)


def questions(folder: Path, answer: str) -> tuple[str, TaskOptions]:
    found = []
    for i in range(60):
        asked = {"question": f"Which colour {i}?", "id": str(i), "answers": [{"text": answer, "answer_start": 0}]}
        asking = {"context": f"It is red or blue in town {i}.", "qas": [asked]}
        # Paragraphs that hold neither answer, so that the prompts are the same.
        filling = {"context": f"Nothing is known of village {i}, where nobody goes.", "qas": []}
        found.append({"title": f"t{i}", "paragraphs": [asking, filling]})
    (folder / "squad.json").write_text(json.dumps({"data": found}))
    return "ruler/qa_1", TaskOptions(ruler_qa=(folder / "squad.json",), lengths=(500,), examples=1)


def needles(folder: Path, answer: str) -> tuple[str, TaskOptions]:
    rows = [{"needle": f"Hat {i} is red or blue.", "question": f"Hat {i}?", "answer": answer} for i in range(40)]
    (folder / "needles.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return "needle", TaskOptions(needles=folder / "needles.jsonl", lengths=(400,), examples=2)


def plan_of(model: Model, asked: tuple[str, TaskOptions]) -> Plan:
    task, options = asked
    return plan_request(request_of([task], ["snapkv"], (24,), options=options, split="all", knobs="papers"), model)


@pytest.mark.parametrize("make", [longbench, questions])
def test_a_run_is_not_resumed_with_other_answers(texty: Model, tmp_path: Path, make: Any) -> None:
    run = tmp_path / "run"
    first = plan_of(texty, make(tmp_path, "red"))
    execute(first, run)
    records = (run / "records.jsonl").read_bytes()
    other = plan_of(texty, make(tmp_path, "blue"))
    (task,) = other.configuration["tasks"]
    told = [plan.configuration["tasks"][task] for plan in (first, other)]
    assert told[0]["ids"] == told[1]["ids"]
    with pytest.raises(RequestError, match=rf"other settings: tasks\.{task}\.contents is .* there and .* here"):
        execute(other, run)
    execute(plan_of(texty, make(tmp_path, "red")), run)
    assert (run / "records.jsonl").read_bytes() == records
    # Of an earlier version.
    said = json.loads((run / "run.json").read_text())
    del said["configuration"]["tasks"][task]["contents"]
    (run / "run.json").write_text(json.dumps(said))
    execute(other, run)
    assert (run / "records.jsonl").read_bytes() == records
    assert "contents" not in json.loads((run / "run.json").read_text())["configuration"]["tasks"][task]
    # Where nobody names a folder, a run of an earlier version is found too.
    assert first.name == other.name


def test_needles_of_the_users_with_other_answers_are_other_contents(texty: Model, tmp_path: Path) -> None:
    told = [plan_of(texty, needles(tmp_path, each)).configuration["tasks"]["needle"] for each in ("red", "blue", "red")]
    assert told[0] == told[2]
    assert told[0]["contents"] != told[1]["contents"]


def test_hashes_that_are_not_there_are_not_compared() -> None:
    wanted = {"seed": 0, "tasks": {"a": {"version": 1, "contents": "x"}, "b": {"rules": "r", "contents": "y"}}}
    assert as_kept(wanted, wanted) == wanted
    earlier = {"tasks": {"a": {"version": 1}, "b": {"contents": "z"}}}
    assert as_kept(wanted, earlier)["tasks"] == {"a": {"version": 1}, "b": {"rules": "r", "contents": "y"}}
    assert as_kept(wanted, {})["tasks"] == as_kept(wanted, {"tasks": ["a"]})["tasks"]
    assert naming(wanted) == {"seed": 0, "tasks": {"a": {"version": 1}, "b": {"rules": "r", "contents": "y"}}}
