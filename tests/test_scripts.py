"""The studies and comparisons that users can run, on a tiny model: they run, and their figures are consistent."""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cokv_bench.budgets import HeadShares, HeadValues
from cokv_bench.cli import make_app
from cokv_bench.errors import RequestError
from cokv_bench.models import Model
from cokv_bench.policies import POLICIES
from cokv_bench.search import SearchExamples, Stopping, climb, search
from cokv_bench.search.search import search_experts
from cokv_bench.tasks.prompts import Encoding
from cokv_bench.tasks.registry import TaskOptions, resolve
from tests.report.made_run import make_run as made_run
from tests.scripted import SCRIPTS, script


def test_estimator_quality(
    texty_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, file = script("estimator_quality"), tmp_path / "quality.json"
    monkeypatch.setattr(module, "_LENGTH", 400)
    arguments: dict[str, Any] = {"pairs": 64, "validation": 2, "examples": 3, "budget": 32, "window": 8, "seed": 0}
    arguments["samplings"] = ",".join(module.SAMPLINGS)
    module.main(name=str(texty_folder), folder=tmp_path / "ledgers", json=file, **arguments)
    rows = json.loads(file.read_text())["rows"]
    assert [row["budgets"] for row in rows[:3]] == ["full", "snapkv", "ada-snapkv"]
    assert {row["estimator"] for row in rows[3:]} == set(module.ESTIMATORS)
    assert {row["sampling"] for row in rows[3:]} == set(module.SAMPLINGS)
    assert all("logprob" in row for row in rows)
    assert "kernelshap" in capsys.readouterr().out


def test_compare_searches(texty: Model, texty_folder: Path, tmp_path: Path) -> None:
    module, file, profile = script("compare_searches"), tmp_path / "families.json", tmp_path / "values.json"
    values = np.arange(6.0).reshape(3, 2)
    rest = {"estimator": "ssv", "samples": 1, "seed": 0, "utility": "loglik", "window": 8, "tasks": (), "examples": ()}
    HeadValues(values, np.ones((3, 2)), model=texty.fingerprint, **rest).save(profile)  # type: ignore[arg-type]
    arguments: dict[str, Any] = {"names": "needle", "budget": 24, "seed": 0}
    names = [*module.FAMILIES, "gradient@cokv", "cma@ada"]
    arguments |= {
        "families": ",".join(names),
        "utility": "loglik",
        "profile": profile,
        "lengths": "300",
        "json_file": file,
    }
    module.main(name=str(texty_folder), seconds=0.3, examples=6, unseen=4, **arguments)
    rows = json.loads(file.read_text())["families"]
    assert list(rows) == ["full", "snapkv", "cokv", *names]
    assert (rows["full"]["gap_closed"], rows["snapkv"]["gap_closed"]) == (pytest.approx(1), 0)
    assert all(rows[name]["steps"] > 0 and np.isfinite(rows[name]["logprob"]) for name in names)
    assert rows["cokv"]["above_cokv"] == 0
    found = HeadShares.load(tmp_path / "families-cma-from-ada.shares.json")
    assert found.budgets(24, window=8).sum() == 24 * 6


def test_tokens_go_where_curves_are_steepest() -> None:
    fill = script("compare_searches")._fill
    counts, gains = np.array([0.0, 10, 20, 40]), np.array([[0, 5, 6, 6], [0, 1, 9, 9], [0, 0, 0, 0.1]])
    assert fill(counts, gains, 30).tolist() == [10, 20, 0]
    assert fill(counts, gains, 45).tolist() == [20, 20, 5]


def shares_of(model: Model) -> HeadShares:
    tables = np.random.default_rng(0).normal(size=(2, model.layers, model.kv_heads))
    return HeadShares((16, 48), tables, 8, ("loglik",), ("needle",), (), model.fingerprint, {})


def test_adaptive_shares(texty: Model, texty_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    known = dict(POLICIES)
    shares_of(texty).save(tmp_path / "shares.json")
    try:
        script("adaptive_shares").main(
            name=str(texty_folder), budgets="24", shares=tmp_path / "shares.json", lengths="500", examples=3,
            out=tmp_path / "out",
        )  # fmt: skip
    finally:
        for name in set(POLICIES) - set(known):
            del POLICIES[name]
    scores = pd.read_csv(tmp_path / "out" / "logprobs.csv").set_index("method")
    combined = ["search+layers", "search*ada^0.25", "search*ada^0.5", "search*ada^1"]
    assert set(scores.index) == {"full", "snapkv", "ada-snapkv", "cokv-search", *combined}
    assert scores["exact_total"].all()
    assert scores.loc[combined, "logprob"].nunique() > 1


def test_search_curve(texty: Model, texty_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = TaskOptions(lengths=(300,), examples=6)
    examples = SearchExamples(texty, resolve(["needle"], texty, options), ["loglik"], window=8)
    monkeypatch.setattr(climb, "ROUND", 2)
    search(examples, tmp_path, [20, 40], seed=0, stopping=Stopping(steps=5))
    script("search_curve").main(
        folder=tmp_path, name=str(texty_folder), lengths="300", examples=4, out=tmp_path / "curve"
    )
    table = pd.read_csv(tmp_path / "curve" / "curve.csv")
    assert list(zip(table["step"], table["budget"], strict=True)) == [(s, b) for s in (2, 4, 5) for b in (20, 40)]
    assert np.isfinite(table[["chosen", "unseen", "logprob"]].to_numpy()).all()
    assert (tmp_path / "curve" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_search_curve_is_of_the_ranking_that_was_searched(
    texty: Model, texty_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, rankings = TaskOptions(lengths=(300,), examples=4), ("window", "keydiff")
    tasks = resolve(["needle"], texty, options)
    examples = SearchExamples(texty, tasks, ["loglik"], window=8, rankings=rankings)
    monkeypatch.setattr(climb, "ROUND", 2)
    search(examples, tmp_path, [20], seed=0, stopping=Stopping(steps=2), ranking=1)
    asked = {"name": str(texty_folder), "lengths": "300", "examples": 4, "out": tmp_path / "curve"}
    script("search_curve").main(folder=tmp_path, **asked)
    test = SearchExamples(texty, tasks, ["loglik"], window=8, rankings=("keydiff",), split="test")
    average = torch.tensor(json.loads((tmp_path / "search.jsonl").read_text().splitlines()[-1])["average"][0])
    logprob = pd.read_csv(tmp_path / "curve" / "curve.csv")["logprob"].item()
    assert logprob == pytest.approx(test.score_all(test.counted, 20, average).mean(), abs=1e-5)
    search_experts(examples, tmp_path / "e", [20], rankings=(1, 1), seed=0, stopping=Stopping(steps=2))
    with pytest.raises(RequestError, match="is of 2 experts"):
        script("search_curve").main(folder=tmp_path / "e", **asked)


def test_head_maps(texty: Model, tmp_path: Path) -> None:
    shares_of(texty).save(tmp_path / "shares.json")
    maps = [f"one={tmp_path / 'shares.json'}", f"two={tmp_path / 'shares.json'}"]
    script("head_maps").main(maps, budget=24, out=tmp_path / "maps.png")
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")


def test_transfer_matrix(texty: Model, texty_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, values = script("transfer_matrix"), tmp_path / "values.json"
    shares_of(texty).save(tmp_path / "shares.json")
    rest = {"estimator": "ssv", "samples": 1, "seed": 0, "utility": "loglik", "window": 8, "tasks": (), "examples": ()}
    HeadValues(np.arange(6.0).reshape(3, 2), np.ones((3, 2)), model=texty.fingerprint, **rest).save(values)  # type: ignore[arg-type]
    monkeypatch.setattr(module.embedded, "values_path", lambda: values)
    monkeypatch.setattr(module.embedded, "shares_path", lambda: tmp_path / "shares.json")
    module.main(
        name=str(texty_folder), names="needle,text", budget=24, steps=2, examples=4, unseen=3, lengths="400",
        out=tmp_path / "out",
    )  # fmt: skip
    table = pd.read_csv(tmp_path / "out" / "transfer.csv")
    assert set(table["searched_on"]) == {"needle", "text", "cokv (needles)", "many tasks"}
    assert len(table) == 4 * 2
    assert table["closed"].to_numpy() == pytest.approx((table["gained"] / table["gap"]).to_numpy())


def test_the_full_cache_says_what_generate_says(
    texty_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "equal.json"
    script("compare_generate").main(
        name=str(texty_folder), names="needle,text", lengths="400", examples=3, most=2, json_file=file
    )
    found = json.loads(file.read_text())
    assert found["equal"] == len(found["rows"]) == 4
    assert all(row["tokens"] > 1 and row["apart_at"] is None for row in found["rows"])
    assert "4 of 4 answers are equal" in capsys.readouterr().out


def test_where_the_answers_part_is_told(texty: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another model's answers in place of the full cache's."""
    module = script("compare_generate")
    (task,) = resolve(("needle",), texty, TaskOptions(lengths=(400,), examples=1))
    example = task.examples("test")[0]
    same = module.compare(texty, example, Encoding())
    real = module.decode

    def other(*args: object, **options: object) -> list[object]:
        (answer,) = real(*args, **options)
        answer.token_ids[1] += 1
        return [answer]

    monkeypatch.setattr(module, "decode", other)
    found = module.compare(texty, example, Encoding())
    assert same["equal"]
    monkeypatch.setattr(module, "decode", real)
    assert module.compare(texty, replace(example, stop_at_newline=True), Encoding())["equal"]
    assert (found["equal"], found["apart_at"], found["tokens"]) == (False, 1, same["tokens"])
    assert found["gap"] > 0


# Each ends before a model is loaded.
BAD_REQUESTS = {
    "bench_coalition --random-weights llama3-8": "did you mean llama3-8b",
    "bench_gpu --only kernels": "There is no part 'kernels'" if torch.cuda.is_available() else "need a CUDA device",
    "adaptive_shares --shares none.json": "Cannot read the head-shares file none.json",
    "bench_profile --repeated 9 --coalitions 8": "--repeated 9 is more than the 8 coalitions",
    "bench_search --depths 2": "the depths '2'; give two of 1 to 32",
    "bench_search --depths 1,33": "the depths '1,33'; give two of 1 to 32",
    "bench_search --depths 1;2": "'1;2' is not a list of whole numbers for depth",
    "bench_search --random-weights llama3-8 --depths 1,2": "did you mean llama3-8b",
    "bench_search --budget 8": "A budget of 8 tokens does not lie between",
    "bench_sweep --model nowhere": "nowhere",
    "compare_searches --families cma,gradients": "Unknown family 'gradients'; did you mean gradient?",
    "compare_searches --families cma@coky": "Unknown start 'coky'; did you mean cokv?",
    "estimator_quality --samplings none": "Unknown sampling 'none'",
    "head_maps --map shares.json": "'shares.json' names no head map; write NAME=FILE",
    "head_maps --map one=none.json": "none.json",
    "head_maps --map one=none.json --out maps.txt": "'maps.txt' is no name of a figure",
    "headkv_scores --model nowhere": "nowhere",
    "search_curve .": "search.jsonl cannot be read (No such file or directory)",
    "search_curve --out file/curve ledger": "The folder file/curve cannot be created",
    "search_curve --out curve ledger": "search.jsonl has schema version None",
    "transfer_matrix --out file": "The folder file cannot be created",
}


@pytest.mark.parametrize("line", BAD_REQUESTS)
def test_a_bad_request_is_a_sentence_and_status_2(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(SCRIPTS)
    (tmp_path / "file").touch()
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "search.jsonl").write_text('{"kind": "search-ledger"}\n{}\n{}\n')
    name, *arguments = line.split()
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 2
    said = [each for each in capsys.readouterr().err.splitlines() if not each.startswith("Loading ")]
    assert len(said) == 1
    assert said[0].startswith("Error: ")
    assert BAD_REQUESTS[line] in said[0]


SETTINGS = '{"kind": "search-ledger", "schema": 3, "budgets": [20], "model": {"layers": 1, "kv_heads": 1}}\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "does not begin with the header of a search-ledger"),
        ('{"kind": "head-shares"}\n', "does not begin with the header of a search-ledger"),
        ("[]\n", "does not begin with the header of a search-ledger"),
        (SETTINGS + '{"st', "no round yet"),
        (SETTINGS + "{}\n", "line 2 is not the ends of a search"),
    ],
)
def test_files_that_are_no_ledger_with_rounds(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "search.jsonl").write_text(content)
    with pytest.raises(RequestError, match=said):
        script("search_curve").main(folder=tmp_path, out=tmp_path / "curve")


def test_the_study_of_the_statistics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = script("study_statistics")
    results = SCRIPTS.parent / "results"
    records = study.Records.read(results / "search/universal", "search/universal")
    covered = [study.coverage(case, 300, 0) for case in study.record_cases(records)]
    assert {row["interval"] for row in covered} == {
        *("score", "difference", "difference over budgets", "share of the gap")
    }
    # Two to six rows per task: an interval that takes rows for a population covers 85 to 91% of these.
    assert 0.92 <= sum(row["covered"] for row in covered) / len(covered) <= 0.97
    for null in ("methods shuffled", "signs drawn"):
        found = study.family_error(records, "primary", null, 200, 0)
        assert found["comparisons"] == 24
        assert 0.01 <= found["error"] <= 0.1
    study.RUNS = ("search/needle", "search/universal")
    study.main(results, draws=10, runs=10, seed=0, json=tmp_path / "s.json")
    written = json.loads((tmp_path / "s.json").read_text())
    assert set(written) == {"draws", "runs", "seed", "coverage", "family_error"}
    assert "Coverage of the 95% intervals" in capsys.readouterr().out


def test_two_runs_are_compared_example_by_example(tmp_path: Path) -> None:
    compare = script("compare_runs")
    made_run(tmp_path / "one")
    made_run(tmp_path / "two")
    lines = [json.loads(line) for line in (tmp_path / "two/records.jsonl").read_text().splitlines()]
    raised = [r | {"score": 1.0} if r["method"] == "snapkv" and r["task"] == "needle" else r for r in lines]
    (tmp_path / "two/records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in raised))
    before, after = (compare.scores(tmp_path / name, "needle") for name in ("one", "two"))
    found = compare.differences(before, after).mean()
    assert found.drop("snapkv").eq(0).all()
    assert found["snapkv"] == pytest.approx(100 - before["snapkv"].mean())
    compare.main(tmp_path / "one", tmp_path / "two", "needle")
    with pytest.raises(RequestError, match="in common"):
        compare.main(tmp_path / "one", tmp_path / "two", "longbench/none")


def test_a_sweep_is_timed_in_all_its_ways(texty_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = "--method snapkv,ada-snapkv --budget 20,40 --lengths 300 --examples 3 --cells 1"
    file = ("--json", str(tmp_path / "sweep.json"))
    monkeypatch.setattr(sys, "argv", ["bench_sweep.py", "--model", str(texty_folder), *asked.split(), *file])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / "bench_sweep.py"), run_name="__main__")
    assert ended.value.code == 0
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert found["same_answers"] is True
    assert len(found["examples"]) == 3
    assert [("cells" in row) for row in found["examples"]] == [True, False, False]
    seconds = [row[way] for row in found["examples"] for way in ("full", "grid")]
    assert min([*seconds, found["eval"], found["examples"][0]["cells"]]) > 0
    assert found["eval_to_full"] == pytest.approx(found["eval"] / sum(row["full"] for row in found["examples"]))


def test_the_study_of_knobs_tells_what_each_setting_is_worth(texty_folder: Path, tmp_path: Path) -> None:
    needles = ("--tasks", "needle", "--lengths", "300", "--examples", "2", "--model", str(texty_folder))
    asked = ("--method", "snapkv,pyramidkv", "--budget", "20,40", "--out", str(tmp_path / "knobs.json"))
    make_app()(("tune", *needles, *asked), standalone_mode=False)
    script("study_knobs").main(tmp_path / "knobs.json", out=tmp_path / "study")
    knobs = pd.read_csv(tmp_path / "study/knobs.csv")
    curves = json.loads((tmp_path / "knobs.json").read_text())["benchmarks"]["needle"]["curves"]
    queries = pd.read_csv(tmp_path / "study/queries.csv").set_index(["budget", "queries", "kernel"])["utility"]
    assert set(queries.index.get_level_values("queries")) == {8, 16, 32, 64}
    ranking = {"window": 8, "kernel": 7, "pooling": "max", "queries": "mean"}
    for budget, observed in ((20, 8), (40, 64)):
        asked = {} if observed == 8 else {"observe": observed}
        best, published = [], []
        for method in ("snapkv", "pyramidkv"):
            of = curves[method][str(budget)]
            mine = [each for each in of if each["options"] == {**each["options"], **asked, "window": 8}]
            mine = [each for each in mine if set(each["options"]) == {*ranking, *asked}]
            best.append(max(each["utility"] for each in mine))
            published.append(next(each["utility"] for each in mine if each["options"] == {**ranking, **asked}))
        assert queries[budget, observed, "best"] == pytest.approx(sum(best) / 2, abs=1e-4)
        assert queries[budget, observed, "published"] == pytest.approx(sum(published) / 2, abs=1e-4)
    assert len(knobs) == sum(len(tried) for by_budget in curves.values() for tried in by_budget.values())
    for (method, budget), rows in knobs.groupby(["method", "budget"]):
        tried = [each["utility"] for each in curves[method][str(budget)]]
        assert rows["gain"].tolist() == pytest.approx([value - tried[0] for value in tried], abs=1e-4)
        assert rows["chosen"].sum() == 1
        assert rows.set_index("chosen")["gain"][True] == rows["gain"].max()
