"""No head file is judged on what it was made from, nor on another example of the same document."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cokv_bench.budgets import HeadBudgets, HeadShares, HeadValues
from cokv_bench.budgets.from_profile import write_budgets
from cokv_bench.errors import RequestError
from cokv_bench.game.head_game import make_game
from cokv_bench.game.profile import profile as run_profile
from cokv_bench.game.stopping import Stopping
from cokv_bench.models import Model
from cokv_bench.runs.execute import execute
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.journal import read_records
from cokv_bench.runs.overlap import left_out_line
from cokv_bench.runs.plan import Plan
from cokv_bench.runs.request import plan_request
from cokv_bench.search import SearchLimits, search
from cokv_bench.search.examples import SearchExamples
from cokv_bench.tasks.base import side_of
from cokv_bench.tasks.registry import TaskOptions
from cokv_bench.tasks.rows.jsonl import JsonlTask
from tests.requests import request_of

TASKS = ["jsonl:one.jsonl", "jsonl:two.jsonl"]


@pytest.fixture(autouse=True)
def _rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three questions about each of twelve texts in one file, one about each of the last six in another."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"input": f"Question {q}?", "context": f"Text {d} says so. " * 3, "answers": [f"{q}{d}"]}
        for d in range(18)
        for q in range(3)
    ]
    Path("one.jsonl").write_text("\n".join(map(json.dumps, rows[:36])))
    Path("two.jsonl").write_text("\n".join(map(json.dumps, [row for row in rows[18:] if "0" in row["input"]])))


def profile(model: Model, examples: Any, **changes: Any) -> HeadSources:
    """A profile made from some examples; the run's methods are CoKV's with it."""
    shape = (model.layers, model.kv_heads)
    HeadValues(
        values=np.random.default_rng(0).random(shape),
        standard_errors=np.zeros(shape),
        estimator="ssv",
        samples=1,
        seed=0,
        utility="loglik",
        window=8,
        tasks=("jsonl:elsewhere.jsonl",),
        examples=tuple(example.id for example in examples),
        model=model.fingerprint,
        **changes,
    ).save(Path("values.json"))
    return HeadSources(profiles=(Path("values.json"),), zeroed=1)


def plan_for(model: Model, sources: HeadSources, **changes: Any) -> Plan:
    request = {"tasks": TASKS, "methods": ["full", "snapkv", "cokv"], "budgets": [30], "split": "all", **changes}
    return plan_request(request_of(**request, heads=sources), model)


def ids_of(plan: Plan) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for job in plan.jobs:
        for part in job.parts:
            found.setdefault(part.task, set()).add(part.example.id)
    return found


def test_another_question_about_a_seen_text_is_refused(texty: Model) -> None:
    first, second, *_ = JsonlTask("one.jsonl").examples("all")
    assert first.document == second.document
    for sources in (
        profile(texty, [first], documents=(first.document,)),
        # A file of an earlier version has ids alone; the documents are looked up, also beyond a limit.
        profile(texty, [first]),
    ):
        with pytest.raises(RequestError, match=r"made from 1 of the 36 .* documents of 2 others; .*--leave-out-seen"):
            plan_for(texty, sources)
    sources = profile(texty, [second])
    with pytest.raises(RequestError, match=r"made from 0 of the 1 .* documents of 1 others"):
        plan_for(texty, sources, options=TaskOptions(limit=1))


def test_what_is_seen_is_left_out_for_all_methods(texty: Model) -> None:
    examples = JsonlTask("one.jsonl").examples("all")
    seen = [examples[0], examples[-1]]
    gone = {example.id for example in examples if example.document in {each.document for each in seen}}
    assert len(gone) == 6
    whole = plan_for(texty, HeadSources(), methods=["full", "snapkv"])
    for documents in ((), tuple(each.document for each in seen)):
        plan = plan_for(texty, profile(texty, seen, documents=documents), leave_out_seen=True)
        kept = {task: ids - gone for task, ids in ids_of(whole).items()}
        assert ids_of(plan) == kept
        left = {task: sorted(ids & gone) for task, ids in ids_of(whole).items()}
        assert {task: sorted(ids) for task, ids in plan.left_out.items()} == left
        assert {task: len(ids) for task, ids in left.items()} == {TASKS[0]: 6, TASKS[1]: 1}
        assert left_out_line(plan.left_out, plan.examples).endswith(f": {TASKS[0]} 6 of 36, {TASKS[1]} 1 of 12.")
        assert all(len(part.variants) == 3 for job in plan.jobs for part in job.parts)
        assert plan.configuration["left_out"] == plan.left_out
        assert plan.configuration["split_rule"] == "document"
        assert {task: told["examples"] for task, told in plan.configuration["tasks"].items()} == plan.examples
        assert plan.name != whole.name


def test_a_run_from_which_nothing_is_left_out_is_the_same_run(texty: Model) -> None:
    sources = profile(texty, [])
    assert plan_for(texty, sources, leave_out_seen=True).name == plan_for(texty, sources).name
    assert "left_out" not in plan_for(texty, sources, leave_out_seen=True).configuration


def test_a_task_of_which_nothing_is_left_is_not_in_the_run(texty: Model) -> None:
    two = JsonlTask("two.jsonl").examples("all")
    plan = plan_for(texty, profile(texty, two), leave_out_seen=True)
    assert list(plan.configuration["tasks"]) == TASKS[:1]
    assert len(plan.left_out[TASKS[1]]) == len(two)
    with pytest.raises(RequestError, match=r"Nothing is left to evaluate: the budgets of 'cokv' were"):
        plan_for(texty, profile(texty, two), leave_out_seen=True, tasks=TASKS[1:])


def test_rows_of_the_profile_split_can_be_left_out_and_needles_of_it_not(texty: Model) -> None:
    one = JsonlTask("one.jsonl")
    sources = profile(texty, one.examples("profile"))
    data = json.loads(Path("values.json").read_text())
    Path("values.json").write_text(json.dumps({**data, "tasks": [TASKS[0], "needle"]}))
    with pytest.raises(RequestError, match="evaluate on the split 'test' or 'report'"):
        plan_for(texty, sources)
    plan = plan_for(texty, sources, leave_out_seen=True)
    assert ids_of(plan)[TASKS[0]] == {e.id for split in ("test", "report") for e in one.examples(split)}
    options = TaskOptions(lengths=(500,), examples=1)
    with pytest.raises(RequestError, match="made from the profile split of needle"):
        plan_for(texty, sources, leave_out_seen=True, tasks=["needle"], options=options)
    for split in ("test", "report"):
        assert plan_for(texty, sources, tasks=["needle"], options=options, split=split).answers == 3


def test_every_split_can_be_asked_for(texty: Model) -> None:
    found = {
        split: ids_of(plan_for(texty, HeadSources(), methods=["full"], split=split, tasks=TASKS[:1]))[TASKS[0]]
        for split in ("profile", "test", "report", "all")
    }
    assert found["profile"] | found["test"] | found["report"] == found["all"]
    assert sum(map(len, found.values())) == 2 * 36
    with pytest.raises(RequestError, match="did you mean report"):
        plan_for(texty, HeadSources(), split="reprot")


def test_a_split_to_which_no_document_falls_has_a_sentence(texty: Model) -> None:
    rows = [{"input": f"Question {q}?", "context": "One text.", "answers": ["a"]} for q in range(9)]
    Path("lone.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lone = JsonlTask("lone.jsonl")
    mine = side_of(lone.examples("all")[0].document)
    assert len(lone.examples(mine)) == 9
    for split in {"profile", "test", "report"} - {mine}:
        with pytest.raises(
            RequestError,
            match=rf"no examples in the split '{split}': .*none of the 1 documents falls to this one; .*--seed",
        ):
            plan_for(texty, HeadSources(), methods=["full"], tasks=["jsonl:lone.jsonl"], split=split)


def test_rows_with_one_prompt_and_several_answers_are_all_scored(texty: Model) -> None:
    rows = [{"input": "", "context": "One report that six people summed up.", "answers": [f"S {i}"]} for i in range(6)]
    Path("notes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    plan = plan_for(texty, HeadSources(), methods=["full"], tasks=["jsonl:notes.jsonl"])
    assert len(plan.jobs) == 1
    execute(plan, Path("run"))
    assert len(read_records(Path("run"))) == 6
    answers = [json.loads(line)["answers"] for line in Path("run/examples.jsonl").read_text().splitlines()]
    assert sorted(answers) == [[f"S {i}"] for i in range(6)]


def test_profiles_and_searches_store_documents_and_say_how_rows_were_dealt(texty: Model) -> None:
    rows = [{"input": f"Q{q}?", "context": f"Text {d} says so.", "answers": ["yes"]} for d in range(20) for q in (0, 1)]
    Path("few.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = JsonlTask("few.jsonl", limit=2)
    expected = tuple(dict.fromkeys(example.document for example in task.examples("profile")))
    assert len(expected) == 1
    game = make_game(texty, [task], "loglik", window=8)
    made = run_profile(game, Path("p"), estimator="ssv", seed=0, stopping=Stopping(samples=6))
    assert made.documents == HeadValues.load(Path("p/values.json")).documents == expected
    header = json.loads(Path("p/ledger.jsonl").read_text().partition("\n")[0])
    assert header["config"]["split_rule"] == "document"
    ((_, budgets),) = write_budgets(Path("p"), [30])
    assert budgets.documents == expected
    with pytest.raises(RequestError, match="of the 2 at hand, no two are of one task and two documents"):
        SearchExamples(texty, [task], ["loglik"], window=8).parts()
    task = JsonlTask("few.jsonl", limit=4)
    expected = tuple(dict.fromkeys(example.document for example in task.examples("profile")))
    assert len(expected) == 2
    examples = SearchExamples(texty, [task], ["loglik"], window=8)
    shares = search(examples, Path("s"), [20], seed=0, stopping=SearchLimits(steps=1))
    assert HeadShares.load(Path("s/shares.json")).documents == shares.documents == expected
    assert HeadBudgets.load(Path("s/cokv-search-20.budgets.json")).documents == expected
    assert json.loads(Path("s/search.jsonl").read_text().partition("\n")[0])["split_rule"] == "document"


def test_what_earlier_runs_were_evaluated_on_is_left_out_row_by_row(texty: Model, tmp_path: Path) -> None:
    request = request_of(TASKS[:1], ["full"], [30], split="all", options=TaskOptions(limit=4))
    earlier = plan_request(request, texty)
    execute(earlier, tmp_path / "earlier")

    def later(run: str) -> Plan:
        return plan_request(request_of(TASKS[:1], ["full"], [30], split="all", leave_out_runs=(tmp_path / run,)), texty)

    plan = later("earlier")
    rows = [each.id for each in JsonlTask("one.jsonl").examples("all")]
    assert ids_of(plan)[TASKS[0]] == set(rows[4:])
    assert plan.configuration["left_out"] == {TASKS[0]: rows[:4]}
    with pytest.raises(RequestError, match="none"):
        later("none")


def test_what_was_asked_is_left_out_however_many_questions_a_context_has(texty: Model, tmp_path: Path) -> None:
    def plan(questions: int, *runs: int | str, limit: int | None = None) -> Plan:
        folders = tuple(tmp_path / str(run) for run in runs)
        asked = {"split": "all", "questions_per_context": questions, "leave_out_runs": folders}
        return plan_request(request_of(TASKS[:1], ["full"], [30], options=TaskOptions(limit=limit), **asked), texty)

    execute(plan(1, limit=4), tmp_path / "1")
    execute(plan(3, limit=2), tmp_path / "3")
    rows = [each.id for each in JsonlTask("one.jsonl").examples("all")]
    # The first four rows are all questions of one text and one of the next; the first two triples are six rows.
    assert ids_of(plan(1, 3))[TASKS[0]] == set(rows[6:])
    assert len(ids_of(plan(3, 1))[TASKS[0]]) == 12 - 2
    assert len(ids_of(plan(2, 3))[TASKS[0]]) == 12 - 2
    assert len(ids_of(plan(3, 3))[TASKS[0]]) == 12 - 2

    # An earlier version did not say which questions it asked.
    path = tmp_path / "3" / "records.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**record, "question_ids": None}) + "\n" for record in records))
    with pytest.raises(RequestError, match="question_ids"):
        plan(3, 3)
    for record in records:
        del record["question_ids"]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert len(ids_of(plan(3, 3))[TASKS[0]]) == 12 - 2
    with pytest.raises(RequestError, match=r"ask 3 questions per context .* use --questions-per-context 3"):
        plan(1, 3)


def test_a_head_file_that_is_named_twice_counts_once() -> None:
    file = Path("values.json")
    assert HeadSources(heads=(file, file), profiles=(file,), shares=file).files == ((None, file),)


def test_what_a_head_file_cannot_give_is_refused_before_the_run_has_a_folder(texty: Model) -> None:
    sources = profile(texty, ())
    for asked in (replace(sources, zeroed=10**4), sources):
        methods = ["full", "cokv" if asked.zeroed != 1 else "cokv:alpha=10000"]
        with pytest.raises(RequestError, match="alpha is 10000; it must be 1 to"):
            plan_for(texty, asked, methods=methods)
