"""Ledgers of games and searches, and runs, do not go on with rows that say something else or are scored otherwise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cokv_bench.errors import RequestError
from cokv_bench.game.head_game import make_game
from cokv_bench.game.profile import profile
from cokv_bench.game.stopping import Stopping
from cokv_bench.models import Model
from cokv_bench.runs.execute import execute
from cokv_bench.runs.request import plan_request
from cokv_bench.search import SearchExamples, SearchLimits, search
from cokv_bench.tasks import Example, Task
from cokv_bench.tasks.base import contents
from cokv_bench.tasks.registry import TaskOptions, resolve
from tests.requests import request_of

PLAIN: dict[str, Any] = {"answer": "the old harbour", "template": "{context} Q: {input} A:", "metric": "qa_f1"}
CHANGES: list[dict[str, Any]] = [
    {"answer": "another place"},
    {"template": "{input} {context} so:"},
    {"metric": "rouge"},
]


def rows_of(model: Model, **changes: Any) -> list[tuple[Task, Example]]:
    said = {**PLAIN, **changes}
    row = {"input": "Where was it?", "answers": [said["answer"]], "length": 30, "all_classes": None}
    texts = (json.dumps({"context": f"Document {place} says it. " * 12, **row}) for place in range(60))
    Path("rows.jsonl").write_text("\n".join(texts))
    (task,) = resolve(["jsonl:rows.jsonl"], model, TaskOptions(template=said["template"], metric=said["metric"]))
    return [(task, example) for example in task.examples("profile")]


def play(model: Model, **changes: Any) -> None:
    tasks = [rows_of(model, **changes)[0][0]]
    game = make_game(model, tasks, "loglik", window=8)
    profile(game, Path("game"), estimator="ssv", seed=0, stopping=Stopping(samples=6))


def climb(model: Model, **changes: Any) -> None:
    tasks = [rows_of(model, **changes)[0][0]]
    search(SearchExamples(model, tasks, ["loglik"], window=8), Path("s"), [24], seed=0, stopping=SearchLimits(steps=1))


def evaluate(model: Model, **changes: Any) -> None:
    rows_of(model, **changes)
    said = {**PLAIN, **changes}
    options = TaskOptions(template=said["template"], metric=said["metric"], limit=1)
    request = request_of(["jsonl:rows.jsonl"], ["snapkv"], (24,), options=options, knobs="papers")
    execute(plan_request(request, model), Path("run"))


@pytest.mark.parametrize("work", [play, climb, evaluate])
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_ledger_of_other_rows_is_refused(
    texty: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[..., None], change: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    work(texty)
    work(texty)
    with pytest.raises(RequestError, match=r"contents.*rows\.jsonl|rows\.jsonl\.contents") as refused:
        work(texty, **change)
    assert len(str(refused.value)) <= 400


def test_contents_are_those_of_the_examples_by_task(
    texty: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = contents(rows_of(texty))
    assert list(plain) == ["jsonl:rows.jsonl"]
    assert contents(rows_of(texty)) == plain
    others = [contents(rows_of(texty, **change)) for change in CHANGES]
    assert len({str(each) for each in (plain, *others)}) == 1 + len(CHANGES)
