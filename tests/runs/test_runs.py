"""Runs: one prefill an example, records that survive a crash, tables made from records alone."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cokv_bench import log
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import decode, prefill
from cokv_bench.models import Model
from cokv_bench.policies import get_policy
from cokv_bench.runs.execute import _scored, execute
from cokv_bench.runs.journal import Journal, read_records, record_key
from cokv_bench.runs.overlap import Seen
from cokv_bench.runs.plan import Plan, make_plan, variants_of
from cokv_bench.scores.tables import write_tables
from cokv_bench.tasks import Example, Split, content_id


class Echo:
    """A task with a few prompts; the score is the share of letters in the answer."""

    name, metric, version = "echo", "letters", 1

    def examples(self, split: Split) -> list[Example]:
        prompts = [f"{'abc ' * 20}{split} {index}" for index in range(3)]
        return [Example(content_id(p), self.name, p, ("x",), max_new_tokens=4, fields={"row": p}) for p in prompts]

    def score(self, example: Example, prediction: str) -> dict[str, float]:
        return {"score": sum(c.isalpha() for c in prediction) / max(1, len(prediction))}


def plan_for(model: Model, **changes: Any) -> Plan:
    wanted: dict[str, Any] = {
        "window": 8,
        "split": "test",
        "seed": 0,
        "settings": {"pooling": "max"},
        "profiled": {},
        **changes,
    }
    methods, budgets = wanted.pop("methods", ("full", "snapkv", "h2o")), wanted.pop("budgets", [12, 24])
    variants = variants_of({name: lambda _, name=name: get_policy(name) for name in methods}, budgets)
    return make_plan(model, [Echo()], {"echo": variants}, budgets, **wanted)


def test_a_run_has_one_record_a_cell_and_equals_separate_decoding(texty: Model, tmp_path: Path) -> None:
    plan = plan_for(texty)
    execute(plan, tmp_path)
    records = read_records(tmp_path)
    assert len(records) == 3 * (1 + 2 * 2)
    assert len({record_key(record) for record in records}) == len(records)
    for record in records:
        example = next(p.example for job in plan.jobs for p in job.parts if p.example.id == record["example"])
        ids = texty.text_tokenizer.apply_chat_template(
            [{"role": "user", "content": example.prompt}], tokenize=True, return_dict=False
        )
        prompt = prefill(texty, ids)
        choice = get_policy(record["method"]).select(prompt, record["budget"])
        assert record["prediction"] == decode(texty, prompt, [choice], max_new_tokens=4)[0].text
        assert record["kept_tokens"] == (choice.total if record["budget"] else 6 * len(ids))
        assert record["kv_bytes"] == record["kept_tokens"] * 2 * texty.head_dim * 4


def test_reference_answers_are_written_once_and_no_table_needs_them(texty: Model, tmp_path: Path) -> None:
    execute(plan_for(texty), tmp_path)
    path = tmp_path / "examples.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["example"] for line in lines} == {record["example"] for record in read_records(tmp_path)}
    assert len(lines) == 3
    assert [(line["task"], line["question"], line["answers"]) for line in lines] == 3 * [("echo", "", ["x"])]
    assert not any("answers" in record for record in read_records(tmp_path))
    before = path.read_bytes()
    tables = write_tables(tmp_path)
    path.unlink()
    assert all(tables[name].equals(table) for name, table in write_tables(tmp_path).items())
    execute(plan_for(texty), tmp_path)
    assert path.read_bytes() == before


def test_every_example_is_prefilled_once(texty: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    import sys

    module = sys.modules["cokv_bench.runs.evaluate"]
    monkeypatch.setattr(module, "prefill", lambda *args, **kwargs: calls.append(1) or prefill(*args, **kwargs))
    execute(plan_for(texty), tmp_path)
    assert len(calls) == 3
    execute(plan_for(texty), tmp_path)
    assert len(calls) == 3


@pytest.mark.parametrize("keep", [0.0, 0.2, 0.5, 0.77, 0.99, 1.0])
def test_a_run_goes_on_from_any_byte(texty: Model, tmp_path: Path, keep: float) -> None:
    execute(plan_for(texty), tmp_path / "whole")
    execute(plan_for(texty), tmp_path / "torn")
    path = tmp_path / "torn" / "records.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    execute(plan_for(texty), tmp_path / "torn")
    tables = [write_tables(tmp_path / name) for name in ("whole", "torn")]
    for name in tables[0]:
        pd.testing.assert_frame_equal(tables[0][name], tables[1][name])
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "torn" / name).read_bytes()


def test_records_of_a_finished_run_may_be_compressed(texty: Model, tmp_path: Path) -> None:
    execute(plan_for(texty), tmp_path)
    before, path = write_tables(tmp_path), tmp_path / "records.jsonl"
    records, packed = read_records(tmp_path), tmp_path / "records.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert read_records(tmp_path) == records
    assert all(before[name].equals(table) for name, table in write_tables(tmp_path).items())
    # The run goes on from them: nothing is left to do.
    execute(plan_for(texty), tmp_path)
    assert path.read_bytes() == b""
    assert read_records(tmp_path) == records
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(RequestError, match="is no whole gzip file"):
        read_records(tmp_path)


def test_a_packed_file_of_any_size_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_LARGEST", 1000)
    (tmp_path / "records.jsonl.gz").write_bytes(gzip.compress(b"0\n" * 600))
    with pytest.raises(RequestError, match="unpacks to more than"):
        read_records(tmp_path)


def test_other_settings_are_another_run(texty: Model, tmp_path: Path) -> None:
    plan = plan_for(texty)
    execute(plan, tmp_path)
    other = plan_for(texty, budgets=[16])
    assert other.name != plan.name
    with pytest.raises(
        RequestError, match=r"other settings: budgets is \[12, 24\] there and \[16\] here; use the same"
    ):
        execute(other, tmp_path)


def test_a_second_writer_is_refused(texty: Model, tmp_path: Path) -> None:
    plan = plan_for(texty)
    with Journal(tmp_path, plan.configuration, {}), pytest.raises(RequestError, match="Another process"):
        Journal(tmp_path, plan.configuration, {})


def test_a_damaged_record_is_named(texty: Model, tmp_path: Path) -> None:
    execute(plan_for(texty), tmp_path)
    path = tmp_path / "records.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2][:20]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(RequestError, match="line 3"):
        write_tables(tmp_path)


@pytest.mark.parametrize("change", [{"score": 85.0}, {"score": -0.5}, {"word_recall": 1.5}, {"budget": 512}])
def test_scores_beyond_1_and_budgets_that_the_run_does_not_have_are_refused(
    texty: Model, tmp_path: Path, change: dict[str, Any]
) -> None:
    execute(plan_for(texty), tmp_path)
    path = tmp_path / "records.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    changed = [{**line, **change} if line["method"] == "h2o" and line["budget"] == 24 else line for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in changed))
    says = "the budget 512, which its run.json does not list" if "budget" in change else "a number from 0 to 1"
    with pytest.raises(RequestError, match=says):
        read_records(tmp_path)


@pytest.mark.parametrize(("gives", "told"), [(85.0, "85.0"), (float("nan"), "nan"), (None, "None")])
def test_a_metric_that_gives_no_share_is_named(
    texty: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gives: Any, told: str
) -> None:
    monkeypatch.setattr(Echo, "score", lambda *_: {"score": 0.5, "extra": gives})
    with pytest.raises(RequestError, match=rf"'letters' gives {told} as 'extra' of 'echo' .* a number from 0 to 1"):
        execute(plan_for(texty), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    utility = SimpleNamespace(name="odd", unit="odds")
    answer = SimpleNamespace(values=[gives])
    plan = replace(plan_for(texty), utility=utility)
    if gives != 85.0:
        with pytest.raises(RequestError, match=rf"utility 'odd' gives {told} as 'score' of 'echo' .* a finite number"):
            _scored(plan, plan.jobs[0].parts[0], answer)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text("")
    with pytest.raises(RequestError, match="no records"):
        write_tables(tmp_path)
    with pytest.raises(RequestError, match="cannot be read"):
        write_tables(tmp_path / "nothing")


def test_examples_that_were_profiled_on_are_refused(texty: Model) -> None:
    ids = [example.id for example in Echo().examples("profile")]
    with pytest.raises(RequestError, match="made from 3 of the 3 examples"):
        plan_for(texty, split="profile", profiled={"cokv": Seen(frozenset(ids))})
    plan_for(texty, split="test", profiled={"cokv": Seen(frozenset(ids))})


def test_budgets_at_or_below_the_window_are_refused(texty: Model) -> None:
    for budget in (8, 3):
        with pytest.raises(RequestError, match="nothing beyond the observation window"):
            plan_for(texty, budgets=[16, budget])


def test_tables_are_means_of_the_records(texty: Model, tmp_path: Path) -> None:
    execute(plan_for(texty), tmp_path)
    tables = write_tables(tmp_path)
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    for row in tables["scores.csv"].to_dict("records"):
        budget = None if pd.isna(row["budget"]) else row["budget"]
        scores = [r["score"] for r in records if (r["method"], r["budget"]) == (row["method"], budget)]
        assert row["n"] == 3
        assert row["score"] == pytest.approx(100 * np.mean(scores))
        assert row["ci_low"] <= row["score"] <= row["ci_high"]
    wide = tables["table.csv"]
    assert list(wide.columns) == ["method", "budget", "echo"]
    assert len(wide) == 5
