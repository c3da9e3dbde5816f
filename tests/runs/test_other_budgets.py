"""Curves and two classes in a run: which head files serve them, at which shares, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cokv_bench.budgets import HeadCurves, HeadValues
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import prefill
from cokv_bench.models import Model
from cokv_bench.runs.execute import execute
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.journal import read_records
from cokv_bench.runs.plan import Plan
from cokv_bench.runs.request import plan_request
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.options import TaskOptions
from tests.conftest import random_ids
from tests.requests import request_of
from tests.runs.planned import scores_of, shares_of, values_of

OPTIONS = TaskOptions(lengths=(300,), examples=1)


def plan_for(model: Model, *methods: str, **heads: Any) -> Plan:
    return plan_request(
        request_of(["needle"], methods, (30,), options=OPTIONS, knobs="papers", heads=HeadSources(**heads)), model
    )


def policies(plan: Plan) -> dict[str, Any]:
    return {each.method: each.policy for each in plan.jobs[0].parts[0].variants}


def curves_of(model: Model) -> HeadCurves:
    shares = np.arange(1, 100)[:, None, None] / 100
    lean = np.linspace(-0.2, 0.2, model.layers * model.kv_heads).reshape(model.layers, model.kv_heads)
    return HeadCurves(model.fingerprint, shares + lean * 4 * shares * (1 - shares), "by hand")


def test_rankings_that_need_no_question_run_with_it_hidden(texty: Model, tmp_path: Path) -> None:
    methods = ("full", "keydiff", "knorm", "expected", "kvzip", "dapq", "recent", "sinks-recent", "random")
    request = request_of(
        ["needle"],
        methods,
        (30,),
        options=OPTIONS,
        knobs="papers",
        encoding=Encoding(question_agnostic=True),
    )
    execute(plan_request(request, texty), tmp_path / "run")
    records = read_records(tmp_path / "run")
    assert {each["method"] for each in records} == set(methods)
    assert all(each["question_tokens"] > 0 for each in records)
    assert {each["kept_tokens"] for each in records if each["method"] != "full"} == {30 * texty.layers * texty.kv_heads}


def test_curves_and_two_classes_run_with_exact_totals(texty: Model, tmp_path: Path) -> None:
    curves_of(texty).save(tmp_path / "c.json")
    methods = ("full", "window+curves", "keydiff+two-class:heads=2", "window+two-class")
    plan = plan_for(texty, *methods, heads=(tmp_path / "c.json",))
    execute(plan, tmp_path / "run")
    records = read_records(tmp_path / "run")
    assert {each["method"] for each in records} == set(methods)
    assert {each["kept_tokens"] for each in records if each["method"] != "full"} == {30 * texty.layers * texty.kv_heads}
    # The share of the prompt decides, so a longer prompt has another split.
    policy = policies(plan)["window+curves"]
    short, long = (policy.select(prefill(texty, random_ids(tokens)), 30).counts for tokens in (60, 600))
    assert short.sum() == long.sum()
    assert not short.equal(long)
    fixed = policies(plan_for(texty, "full", "window+curves:prompt=60", heads=(tmp_path / "c.json",)))
    found = fixed["window+curves:prompt=60"].select(prefill(texty, random_ids(600)), 30).counts
    assert abs(found - short).max() <= 1


@pytest.mark.parametrize("kind", [values_of, scores_of, shares_of, curves_of])
def test_two_classes_take_files_of_any_rule(texty: Model, tmp_path: Path, kind: Any) -> None:
    made = kind(texty)
    made.save(tmp_path / "h.json")
    policy = policies(plan_for(texty, "full", "window+two-class:heads=2", heads=(tmp_path / "h.json",)))
    choice = policy["window+two-class:heads=2"].select(prefill(texty, random_ids(300), window=16), 30)
    worth = made.tokens_at(30, window=16 if kind is shares_of else 8).ravel()
    best = set(np.argsort(-worth, kind="stable")[:2].tolist())
    assert set(np.argsort(-choice.counts.ravel().numpy(), kind="stable")[:2].tolist()) == best


def test_of_several_files_its_own_come_first(texty: Model, tmp_path: Path) -> None:
    values_of(texty).save(tmp_path / "v.json")
    shares_of(texty).save(tmp_path / "s.json")
    files = (tmp_path / "v.json", tmp_path / "s.json")
    both, alone = (
        policies(plan_for(texty, "full", "cokv", "window+two-class", heads=heads))["window+two-class"]
        for heads in (files, files[:1])
    )
    prompt = prefill(texty, random_ids(300), window=16)
    assert isinstance(values_of(texty), HeadValues)
    assert not both.select(prompt, 30).counts.equal(alone.select(prompt, 30).counts)


def test_what_has_no_file_says_how_one_is_made(texty: Model, tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"No head budgets for 'window\+curves'.* make some with `cokv-bench import`"
    ):
        plan_for(texty, "full", "window+curves")
    curves_of(texty).save(tmp_path / "c.json")
    with pytest.raises(RequestError, match=r"c\.json, a file of curves for 'curves'; leave it out"):
        plan_for(texty, "full", "cokv", heads=(tmp_path / "c.json",))
