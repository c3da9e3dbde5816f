"""Runs with several questions per context: one compression, an answer each, and the table of later ones."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import pytest

from cokv_bench.game.utilities import Case, get_utility
from cokv_bench.kvcache import decode, prefill
from cokv_bench.models import Model
from cokv_bench.report.layout import lay_out
from cokv_bench.report.markdown import markdown
from cokv_bench.runs.execute import execute
from cokv_bench.runs.journal import read_records
from cokv_bench.runs.plan import Plan
from cokv_bench.runs.request import plan_request
from cokv_bench.scores.tables import tabulate
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.prompts import encode_parts
from tests.requests import request_of

ROWS = [
    {"input": f"Which {i}?", "context": f"It is {i // 3}. " * (10 + 7 * (i // 3)), "answers": [f"{i} it is"]}
    for i in range(9)
]
TASK = "jsonl:rows.jsonl"


@pytest.fixture(autouse=True)
def _rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))


def plan_for(model: Model, *, apart: bool = False, **changes: Any) -> Plan:
    asked = {"split": "all", "knobs": "papers", "questions_per_context": 3, **changes}
    encoding = Encoding(question_agnostic=apart)
    return plan_request(request_of([TASK], ["full", "snapkv"], [24], encoding=encoding, **asked), model)


@pytest.mark.parametrize("apart", [False, True])
def test_every_question_is_answered_from_one_compressed_cache(texty: Model, tmp_path: Path, apart: bool) -> None:
    plan = plan_for(texty, apart=apart)
    execute(plan, tmp_path / "run")
    records = {(each["example"], each["method"]): each for each in read_records(tmp_path / "run")}
    assert len(records) == 6
    task = plan.tasks[TASK]
    for job in plan.jobs:
        (part,) = job.parts
        encoded = encode_parts(texty, part.example, plan.encoding)
        prompt = prefill(texty, encoded.prompt, window=8)
        for variant in part.variants:
            choice = variant.policy.select(prompt, variant.budget)
            record = records[part.example.id, variant.method]
            texts, scores, new = [], [], 0
            for each, ids in zip((part.example, *part.example.later), (encoded.question, *encoded.later), strict=True):
                (answer,) = decode(texty, prompt, [choice], question=ids, max_new_tokens=each.max_new_tokens)
                texts.append(answer.text)
                new += len(answer.token_ids)
                scores.append(task.score(each, answer.text)["score"])
            assert [record["prediction"], *record["later_predictions"]] == texts
            assert record["question_scores"] == scores
            assert record["score"] == pytest.approx(fmean(scores))
            assert (record["first_score"], record["later_score"]) == (scores[0], pytest.approx(fmean(scores[1:])))
            assert record["new_tokens"] == new


def test_a_utility_is_measured_on_every_question(texty: Model, tmp_path: Path) -> None:
    plan = plan_for(texty, utility="loglik")
    execute(plan, tmp_path / "run")
    measure = get_utility("loglik").measure
    records = {(each["example"], each["method"]): each for each in read_records(tmp_path / "run")}
    for job in plan.jobs:
        example, encoded = job.parts[0].example, encode_parts(texty, job.parts[0].example, plan.encoding)
        prompt = prefill(texty, encoded.prompt, window=8)
        for variant in job.parts[0].variants:
            choice = variant.policy.select(prompt, variant.budget)
            asked = zip((example, *example.later), (encoded.question, *encoded.later), strict=True)
            values = [
                measure(Case(texty, plan.tasks[TASK], each, prompt, question=tuple(ids)), [choice])[0]
                for each, ids in asked
            ]
            assert records[example.id, variant.method]["question_scores"] == pytest.approx(values, abs=1e-4)


def test_tables_tell_the_later_questions_apart(texty: Model, tmp_path: Path) -> None:
    plan = plan_for(texty)
    execute(plan, tmp_path / "run")
    results = tabulate(tmp_path / "run")
    frame = pd.DataFrame(read_records(tmp_path / "run"))
    table = results.tables["questions.csv"].set_index("method")
    for method, rows in frame.groupby("method"):
        for name in ("first", "later"):
            assert table.loc[method, name] == pytest.approx(100 * rows[f"{name}_score"].mean())
            assert table.loc[method, f"{name}_ci_low"] <= table.loc[method, name] + 1e-9
        assert (table.loc[method, "questions"], table.loc[method, "n"]) == (3, 3)
        score = results.tables["scores.csv"].set_index("method").loc[method, "score"]
        assert score == pytest.approx((table.loc[method, "first"] + 2 * table.loc[method, "later"]) / 3)
    assert "of the later ones asked from the same cache" in markdown(lay_out(*results))
    assert json.loads((tmp_path / "run" / "examples.jsonl").read_text().splitlines()[0])["later"][0]["answers"]


def test_runs_with_one_question_are_other_runs(texty: Model) -> None:
    several, single = plan_for(texty), plan_for(texty, questions_per_context=1)
    assert several.configuration["tasks"][TASK]["questions"] == 3
    assert "questions" not in single.configuration["tasks"][TASK]
    assert several.examples == {TASK: 3}
    assert single.examples == {TASK: 9}


def test_another_template_is_another_run(texty: Model) -> None:
    """The ids of rows do not tell: they are of the rows' contents."""
    plain = plan_for(texty, questions_per_context=1)
    Path("rows.yaml").write_text('template: "{context}\\n\\nAsked: {input}"\n')
    other = plan_for(texty, questions_per_context=1)
    assert plain.configuration["tasks"][TASK]["ids"] == other.configuration["tasks"][TASK]["ids"]
    assert plain.name != other.name
