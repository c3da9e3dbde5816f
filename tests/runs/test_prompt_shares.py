"""Budgets as shares of the prompt: in plans, records and tables, with head files and knobs, and in benchmarks."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cokv_bench.budget import PromptShare, read, tokens_of
from cokv_bench.budgets import HeadBudgets, HeadFile, HeadScores, HeadShares, HeadValues
from cokv_bench.budgets.knobs import Knobs, Tried, Tuning
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import compress, prefill
from cokv_bench.models import Model
from cokv_bench.policies import get_policy
from cokv_bench.report.folders import read_folders
from cokv_bench.runs.execute import execute
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.journal import read_records, read_run
from cokv_bench.runs.knobs import ChosenKnobs
from cokv_bench.runs.plan import Plan
from cokv_bench.runs.request import plan_request
from cokv_bench.scores.tables import write_tables
from cokv_bench.tasks.encoding import Encoding
from tests.conftest import random_ids
from tests.requests import request_of

ROWS = [{"input": f"Which {i}?", "context": f"It is {i}. " * (10 + 7 * i), "answers": [str(i)]} for i in range(6)]
TASK = "jsonl:rows.jsonl"
HEADS = 3 * 2
SHARE = PromptShare.parse("12.5%")


@pytest.fixture(autouse=True)
def _rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))


def plan_for(model: Model, *methods: str, budgets: Sequence[str | int] = ("12.5%",), **changes: Any) -> Plan:
    asked = {"split": "all", "knobs": "papers", **changes}
    return plan_request(request_of([TASK], methods, [read(budget) for budget in budgets], **asked), model)


def head_file(model: Model, kind: str) -> HeadFile:
    draws = np.random.default_rng(0)
    shape = (model.layers, model.kv_heads)
    origin: Any = {"tasks": ("elsewhere",), "examples": ("seen",), "model": model.fingerprint}
    if kind == "shares":
        tables = draws.random((2, *shape))
        return HeadShares((20, 60), tables, 8, ("loglik",), search={}, **origin)
    if kind == "values":
        return HeadValues(draws.random(shape), np.zeros(shape), "ssv", 1, 0, "loglik", 8, **origin)
    scores = draws.random((model.layers, model.heads))
    return HeadScores({**model.fingerprint, "heads": model.heads}, scores, "by hand", ("elsewhere",), ("seen",))


def test_every_prompt_keeps_its_share_exactly(texty: Model) -> None:
    plan = plan_for(texty, "full", "h2o", "snapkv", "ada-pyramid", budgets=("12.5%", 24, "100%"))
    assert plan.configuration["budgets"] == [24, "12.5%", "100%"]
    execute(plan, Path("run"))
    records = read_records(Path("run"))
    assert len(records) == len(ROWS) * (1 + 3 * 3) == plan.answers
    assert len({record["prompt_tokens"] for record in records}) == len(ROWS)
    for record in records:
        tokens = record["prompt_tokens"]
        kept = {None: tokens, 24: 24, "12.5%": round(tokens / 8), "100%": tokens}[record["budget"]]
        assert record["kept_tokens"] == HEADS * kept
    # What a share gives is what as many tokens give.
    whole = {record["example"]: record["prediction"] for record in records if record["method"] == "full"}
    assert all(record["prediction"] == whole[record["example"]] for record in records if record["budget"] == "100%")
    # In the order of budgets, on disk and again; nothing is evaluated twice.
    of_one = [record["budget"] for record in records if record["method"] == "h2o"]
    assert list(dict.fromkeys(of_one)) == [24, "12.5%", "100%"]
    before = Path("run/records.jsonl").read_bytes()
    execute(plan_for(texty, "full", "h2o", "snapkv", "ada-pyramid", budgets=("100%", "12.5%", 24)), Path("run"))
    assert Path("run/records.jsonl").read_bytes() == before


def test_shares_are_of_the_context_where_the_question_follows_it(texty: Model) -> None:
    execute(plan_for(texty, "snapkv", encoding=Encoding(question_agnostic=True)), Path("run"))
    for record in read_records(Path("run")):
        assert record["question_tokens"] > 8
        assert record["kept_tokens"] == HEADS * round(record["prompt_tokens"] / 8)


def test_tables_have_shares_after_tokens_and_are_read_as_they_were_written(texty: Model) -> None:
    execute(plan_for(texty, "full", "h2o", "snapkv", budgets=("25%", 24, "9%")), Path("run"))
    tables = write_tables(Path("run"))
    wide = pd.read_csv("run/table.csv", dtype=str, keep_default_na=False)
    assert list(wide["budget"]) == ["", "24", "24", "9%", "9%", "25%", "25%"]
    scores = pd.read_csv("run/scores.csv", dtype={"budget": str}).set_index(["method", "budget"])
    assert scores["exact_total"].all()
    of_snapkv = scores.loc["snapkv"]
    assert of_snapkv.loc["24", "kept_per_head"] == 24
    records = read_records(Path("run"))
    lengths = {record["example"]: record["prompt_tokens"] for record in records}.values()
    assert of_snapkv.loc["9%", "kept_per_head"] == pytest.approx(np.mean([tokens_of("9%", n) for n in lengths]))
    compared = tables["comparisons.csv"]
    assert list(map(str, compared["budget"].dropna())) == ["24", "9%", "25%"]
    assert compared["difference"].notna().all()
    # A folder's tables serve a report; those that are not of its records do not.
    (run,), _ = read_folders([Path("run")])
    pd.testing.assert_frame_equal(run.tables["table.csv"], tables["table.csv"], check_dtype=False)
    stored = Path("run/scores.csv")
    stored.write_text(stored.read_text().replace("9%", "8%"))
    (again,), _ = read_folders([Path("run")])
    pd.testing.assert_frame_equal(again.tables["scores.csv"], tables["scores.csv"])


def test_one_prompt_in_python(tiny_llama: Model) -> None:
    ids = random_ids(90)
    prompt = prefill(tiny_llama, ids, window=4)
    for name in ("snapkv", "pyramidkv", "ada-snapkv"):
        policy = get_policy(name)
        expected = policy.select(prompt, 22)
        # 22.5 goes to the even number.
        assert policy.select(prompt, "25%") == policy.select(prompt, PromptShare.parse("25%")) == expected
        assert policy.select(prompt, "100%").total == 90 * HEADS
    found = compress(tiny_llama, ids, get_policy("snapkv"), "25%", window=4)
    assert found.cache.kept_bytes == 22 * HEADS * 2 * 8 * 4
    with pytest.raises(RequestError, match=r"budget of 4 tokens.*window of 4"):
        get_policy("snapkv").select(prompt, "4%")
    with pytest.raises(RequestError, match="not 0%"):
        get_policy("snapkv").select(prompt, "0%")


@pytest.mark.parametrize(("kind", "method"), [("shares", "cokv-search"), ("values", "cokv"), ("scores", "headkv")])
def test_head_files_give_each_prompt_what_they_give_at_as_many_tokens(texty: Model, kind: str, method: str) -> None:
    file = head_file(texty, kind)
    file.save(Path("heads.json"))
    plan = plan_for(texty, method, budgets=("12.5%",), heads=HeadSources(heads=(Path("heads.json"),)))
    (variant,) = plan.jobs[0].parts[0].variants
    splits = set()
    for tokens in (170, 260, 430):
        prompt = prefill(texty, random_ids(tokens), window=8)
        choice = variant.policy.select(prompt, variant.budget)
        assert choice == variant.policy.select(prompt, SHARE.of(tokens))
        assert choice.total == SHARE.of(tokens) * HEADS
        assert (choice.counts.numpy() == file.tokens_at(SHARE.of(tokens), window=8)).all()
        splits.add(tuple(choice.counts[0].tolist()))
    assert len(splits) == 3


def test_a_file_of_one_budget_cannot_give_shares(texty: Model) -> None:
    tokens = np.full((texty.layers, texty.kv_heads), 30)
    rule = {"text": "by hand", "parameters": {"method": "cokv"}}
    HeadBudgets(texty.fingerprint, 30, 8, tokens, rule).save("one.json")
    with pytest.raises(RequestError, match=r"one\.json is for 30 tokens per head, which are 12\.5% of few prompts"):
        plan_for(texty, "cokv", heads=HeadSources(heads=(Path("one.json"),)))


def test_a_share_within_the_window_of_some_prompt_is_refused_when_the_run_is_planned(texty: Model) -> None:
    shortest = min(record for record in lengths_of(texty))
    few, enough = (f"{100 * tokens / shortest:.2f}%" for tokens in (8, 9))
    said = rf"'snapkv' at {few} of a prompt of '{TASK}' with {shortest} tokens: A budget of 8 tokens.*window of 8"
    with pytest.raises(RequestError, match=said):
        plan_for(texty, "full", "snapkv", budgets=(64, few))
    plan_for(texty, "full", "snapkv", budgets=(enough,))
    with pytest.raises(RequestError, match=r"'snapkv:window=16' at .*window of 16"):
        plan_for(texty, "snapkv", "snapkv:window=16", budgets=(enough,))
    heads = head_file(texty, "shares")
    heads.save(Path("heads.json"))
    with pytest.raises(RequestError, match=f"'cokv-search' at .* with {shortest} tokens: A budget of 8"):
        plan_for(texty, "cokv-search", budgets=(few,), heads=HeadSources(heads=(Path("heads.json"),)))


def lengths_of(model: Model) -> list[int]:
    plan = plan_for(model, "full", "snapkv", budgets=("100%",))
    execute(plan, Path("lengths"))
    return sorted({record["prompt_tokens"] for record in read_records(Path("lengths"))})


def test_knobs_are_those_of_the_nearest_budget_at_the_median_prompt(texty: Model) -> None:
    lengths = lengths_of(texty)
    middle, shortest = (round(tokens / 4) for tokens in (median_low(lengths), lengths[0]))
    curve = {budget: [Tried({"kernel": kernel}, -1.0)] for budget, kernel in ((16, 3), (middle, 11), (4000, 21))}
    # The best one there has a window that the share of the shortest prompt has no room for.
    curve[middle].insert(0, Tried({"window": shortest, "kernel": 31}, 0.0))
    tuning = Tuning(("elsewhere",), ("none",), ("none",), "loglik", {"snapkv": curve})
    Knobs(texty.fingerprint, 8, False, {"jsonl": tuning}).save("knobs.json")
    plan = plan_for(texty, "snapkv", budgets=(17, "25%"), knobs="knobs.json")
    found = {each.budget: each.policy.scorer.kernel for each in plan.jobs[0].parts[0].variants}
    assert found == {17: 3, PromptShare.parse("25%"): 11}
    (chosen,) = plan.configuration["knobs"]["chosen"].values()
    assert chosen["snapkv"] == {"17": {"kernel": 3}, "25%": {"kernel": 11}}
    assert ChosenKnobs(Knobs.load("knobs.json")).options("snapkv", TASK, PromptShare.parse("25%")) == {}


def test_a_damaged_share_is_no_record_and_no_run(texty: Model) -> None:
    execute(plan_for(texty, "full", "snapkv"), Path("run"))
    for name, reader in (("records.jsonl", read_records), ("run.json", read_run)):
        path = Path("run", name)
        good = path.read_text()
        for wrong in ("12.50%", "0%", "101%", "twelve"):
            path.write_text(good.replace('"12.5%"', f'"{wrong}"'))
            with pytest.raises(RequestError, match="budget"):
                reader(Path("run"))
        path.write_text(good)
