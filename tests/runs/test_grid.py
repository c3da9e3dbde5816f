"""The grid: rows that two tasks share, order of the work, shards, memory, budgets by task."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cokv_bench.budgets import HeadBudgets, HeadValues
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import prefill
from cokv_bench.log import differences
from cokv_bench.models import Model
from cokv_bench.runs.execute import execute
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.journal import read_records, record_key
from cokv_bench.runs.plan import Plan
from cokv_bench.runs.request import plan_request
from cokv_bench.runs.shards import Shard
from cokv_bench.scores.tables import write_tables
from cokv_bench.tasks.prompts import Encoding
from cokv_bench.tasks.registry import TaskOptions
from tests.requests import request_of

ROWS = [{"input": f"Which {i}?", "context": f"It is {i}. " * (10 + i), "answers": [str(i)]} for i in range(12)]
TASKS = ["jsonl:one.jsonl", "jsonl:two.jsonl"]


@pytest.fixture(autouse=True)
def _rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files that have most rows in common."""
    monkeypatch.chdir(tmp_path)
    Path("one.jsonl").write_text("\n".join(map(json.dumps, ROWS[:9])))
    Path("two.jsonl").write_text("\n".join(map(json.dumps, ROWS[3:])))


def plan_for(model: Model, **changes: Any) -> Plan:
    request = {"tasks": TASKS, "methods": ["full", "snapkv", "h2o"], "budgets": [12, 30], "split": "all", **changes}
    return plan_request(request_of(**request), model)


def timeless(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if not k.endswith("_seconds")} for r in read_records(folder)]


def test_a_row_of_two_tasks_is_prefilled_once(texty: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    lengths: list[int] = []

    def counted(model: Model, ids: list[int], **options: Any) -> Any:
        lengths.append(len(ids))
        return prefill(model, ids, **options)

    monkeypatch.setattr(sys.modules["cokv_bench.runs.evaluate"], "prefill", counted)
    execute(plan_for(texty), Path("run"))
    assert len(lengths) == 12
    # Longest first.
    assert lengths == sorted(lengths, reverse=True)
    records = read_records(Path("run"))
    assert len(records) == (9 + 9) * 5
    by_row: dict[Any, set[str]] = {}
    for record in records:
        by_row.setdefault((record["example"], record["method"], record["budget"]), set()).add(record["prediction"])
    assert all(len(predictions) == 1 for predictions in by_row.values())


def test_shards_make_the_run_of_one_process(texty: Model) -> None:
    plan = plan_for(texty)
    execute(plan, Path("whole"))
    for number in (3, 1, 2):
        execute(plan, Path("shards"), shard=Shard(number, 3))
    assert timeless(Path("whole")) == timeless(Path("shards"))
    names = sorted(path.name for path in Path("shards").glob("records*"))
    assert names == ["records-1of3.jsonl", "records-2of3.jsonl", "records-3of3.jsonl"]
    write_tables(Path("whole"))
    write_tables(Path("shards"))
    assert Path("whole/scores.csv").read_bytes() == Path("shards/scores.csv").read_bytes()
    # Going on without shards finds all there is.
    execute(plan, Path("shards"))
    assert Path("shards/records.jsonl").read_bytes() == b""


def test_records_of_two_files_count_once(texty: Model) -> None:
    plan = plan_for(texty)
    execute(plan, Path("run"))
    first = Path("run/records.jsonl").read_bytes()
    Path("run/records-1of2.jsonl").write_bytes(first[: first.index(b"\n") + 1])
    records = read_records(Path("run"))
    assert len(records) == len({record_key(record) for record in records}) == 90


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(RequestError, match="is not a shard"):
        Shard.parse(text)


def test_shards_cover_everything_once() -> None:
    for count in range(1, 9):
        dealt = [item for number in range(1, count + 1) for item in Shard.parse(f"{number}/{count}").of(range(20))]
        assert sorted(dealt) == list(range(20))


def test_memory_changes_batches_and_no_answer(texty: Model) -> None:
    execute(plan_for(texty), Path("much"))
    largest = max(r["prompt_tokens"] for r in read_records(Path("much"))) * 6 * texty.bytes_per_token
    execute(plan_for(texty), Path("little"), memory=largest + 1)
    assert timeless(Path("much")) == timeless(Path("little"))
    with pytest.raises(RequestError, match="--max-length"):
        execute(plan_for(texty), Path("less"), memory=largest)


def test_question_agnostic_runs(texty: Model) -> None:
    plan = plan_for(texty, encoding=Encoding(question_agnostic=True))
    assert plan.configuration["question_agnostic"]
    execute(plan, Path("apart"))
    execute(plan_for(texty), Path("joined"))
    apart, joined = read_records(Path("apart")), read_records(Path("joined"))
    for one, other in zip(apart, joined, strict=True):
        assert one["prompt_tokens"] + one["question_tokens"] == other["prompt_tokens"]
        assert one["question_tokens"] > other["question_tokens"] == 0
        if one["method"] == "full":
            assert one["prediction"] == other["prediction"]
    assert [r["prediction"] for r in apart] != [r["prediction"] for r in joined]


def test_a_changed_configuration_is_named_value_by_value() -> None:
    found = {"a": {"b": [1, 2], "c": None}, "d": "x" * 90}
    assert differences(found, {"a": {"b": [1], "c": 3}, "d": "x" * 90}) == [
        "a.b is [1, 2] there and [1] here",
        "a.c is absent there and 3 here",
    ]
    assert differences(found, found) == []
    (long,) = differences({"d": "x" * 90}, {"d": 1})
    assert len(long) < 100


def head_values(model: Model, tasks: tuple[str, ...], seed: int) -> HeadValues:
    shape = (model.layers, model.kv_heads)
    return HeadValues(
        values=np.random.default_rng(seed).random(shape),
        standard_errors=np.zeros(shape),
        estimator="ssv",
        samples=1,
        seed=seed,
        utility="loglik",
        window=8,
        tasks=tasks,
        examples=(f"profiled-{seed}",),
        model=model.fingerprint,
        ledger_sha256="0" * 64,
        alphas={},
        status={},
    )


def test_each_task_takes_the_profile_that_was_made_from_it(texty: Model) -> None:
    one, two = (head_values(texty, (task,), seed) for seed, task in enumerate(TASKS))
    for name, values in (("a", one), ("b", two)):
        values.save(Path(name) / "values.json")
    sources = HeadSources(profiles=(Path("a"), Path("b")), zeroed=1)
    plan = plan_for(texty, methods=["cokv"], heads=sources, split="test")
    prompt = prefill(texty, list(range(3, 200)))
    for job in plan.jobs:
        for part in job.parts:
            expected = (one, two)[TASKS.index(part.task)].budgets(30, window=8, zeroed=1)
            choice = part.variants[1].policy.select(prompt, 30)
            assert choice.counts.tolist() == expected.tolist()
    assert set(plan.configuration["head_budgets"]["cokv"]) == set(TASKS)
    options = TaskOptions(lengths=(500,), examples=1)
    with pytest.raises(RequestError, match="none of the 2 is"):
        plan_for(texty, methods=["cokv"], heads=sources, split="test", tasks=["needle"], options=options)
    alone = plan_for(texty, methods=["cokv"], heads=HeadSources(profiles=(Path("a"),), zeroed=1), split="test")
    assert set(alone.configuration["head_budgets"]["cokv"]) == {"profile", "zeroed"}


def test_budget_files_of_several_tasks(texty: Model) -> None:
    files = []
    for seed, task in enumerate(TASKS):
        values = head_values(texty, (task,), seed)
        file = HeadBudgets(
            tokens=values.budgets(30, window=8, zeroed=1),
            budget=30,
            window=8,
            model=texty.fingerprint,
            rule={"text": "by hand", "parameters": {"method": "cokv"}},
            tasks=(task,),
            examples=(f"profiled-{seed}",),
        )
        file.save(Path(f"{seed}.budgets.json"))
        files.append((Path(f"{seed}.budgets.json"), file))
    sources = HeadSources(budget_files=tuple(path for path, _ in files))
    plan = plan_for(texty, methods=["cokv"], budgets=[30], heads=sources, split="test")
    prompt = prefill(texty, list(range(3, 200)))
    for part in (part for job in plan.jobs for part in job.parts):
        choice = part.variants[0].policy.select(prompt, 30)
        assert choice.counts.tolist() == files[TASKS.index(part.task)][1].tokens.tolist()
