"""Tables by hand: the mean's row, lengths, and what is printed of them."""

import gzip
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from cokv_bench.errors import RequestError
from cokv_bench.report.layout import Layout, lay_out
from cokv_bench.report.published import beside_reference
from cokv_bench.report.terminal import print_grid, print_scores
from cokv_bench.runs.journal import read_records
from cokv_bench.scores.intervals import SCORES, interval
from cokv_bench.scores.lengths import lengths_table
from cokv_bench.scores.reference import reference_table
from cokv_bench.scores.tables import named_baselines, scores_table, wide_table, write_tables
from cokv_bench.scores.units import PERCENT
from tests.report.made_run import make_run

RESULTS = Path(__file__).resolve().parents[2] / "results" / "smollm2-135m"
CONFIGURATION: dict[str, Any] = {
    "seed": 0,
    "split": "test",
    "window": 8,
    "model": {"id": "m", "layers": 2, "kv_heads": 5},
    "tasks": {"t/a": {"metric": "f1"}, "t/b": {"metric": "found"}},
}


def record(task: str, number: int, score: float, method: str = "snapkv", budget: int = 64, **more: Any) -> dict:
    cost = {"prompt_tokens": 100, "kept_tokens": 640, "kv_bytes": 6400, "new_tokens": 4}
    start = {"task": task, "example": f"{task}{number}", "method": method, "budget": budget, "score": score}
    return {**start, **cost, **more}


def frame_of(records: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(records).astype({"budget": "Int64"})


def two_tasks() -> list[dict]:
    return [
        *(record("t/a", i, score, kept_tokens=600) for i, score in enumerate([0.0, 0.5, 1.0])),
        *(record("t/b", i, 1.0) for i in range(2)),
    ]


def test_the_mean_counts_tasks_alike() -> None:
    table = scores_table(frame_of(two_tasks()), CONFIGURATION)
    assert list(table["task"]) == ["t/a", "t/b", "mean"]
    mean = table.iloc[2]
    assert (mean["n"], mean["score"], mean["kept_tokens"], mean["kept_per_head"]) == (5, 75.0, 620.0, 62.0)
    assert pd.isna(mean["metric"])
    assert table["exact_total"].tolist() == [False, True, False]
    expected = interval([np.array([0.0, 50.0, 100.0]), np.array([100.0, 100.0])], SCORES)
    assert (mean["ci_low"], mean["ci_high"]) == expected
    assert mean["score"] == wide_table(table)["mean"].item()


def test_no_mean_of_one_task_or_of_some_tasks() -> None:
    alone = frame_of([row for row in two_tasks() if row["task"] == "t/a"])
    assert list(scores_table(alone, CONFIGURATION)["task"]) == ["t/a"]
    partly = frame_of([*two_tasks(), record("t/a", 0, 1.0, method="cokv")])
    table = scores_table(partly, CONFIGURATION)
    assert list(table.loc[table["task"] == "mean", "method"]) == ["snapkv"]


def test_the_full_cache_has_a_mean_without_a_budget() -> None:
    full = [{**row, "method": "full", "budget": None, "score": 0.5, "kept_tokens": 1000} for row in two_tasks()]
    table = scores_table(frame_of([*full, *two_tasks()]), CONFIGURATION)
    means = table[table["task"] == "mean"].set_index("method")
    assert list(table["task"])[-2:] == ["mean", "mean"]
    assert means["score"].to_dict() == {"full": 50.0, "snapkv": 75.0}
    assert pd.isna(means.loc["full", "budget"])
    assert means.loc["full", "exact_total"]


def test_lengths_by_hand() -> None:
    rows = [
        *(record("needle", i, score, length=2048) for i, score in enumerate([0.0, 0.0, 0.0])),
        *(record("needle", i + 3, score, length=1024) for i, score in enumerate([0.0, 1.0])),
        *(record("longbench/trec_e", i, 1.0, length=9000 - 8000 * i, bucket=("8k+", "0-4k")[i]) for i in range(2)),
        *(record("longbench/trec", i, 1.0, length=500 + i, bucket="0-4k") for i in range(2)),
        *(record("jsonl:own", i, 1.0) for i in range(2)),
    ]
    table = lengths_table(frame_of(rows), CONFIGURATION)
    cells = table.set_index(["task", "length"])
    assert list(cells.index) == [
        ("needle", "1024"),
        ("needle", "2048"),
        ("longbench/trec_e", "0-4k"),
        ("longbench/trec_e", "8k+"),
    ]
    assert cells["score"].tolist() == [50.0, 0.0, 100.0, 100.0]
    assert cells["n"].tolist() == [2, 3, 1, 1]
    assert np.isnan(cells.loc[("needle", "1024"), "ci_low"])
    # None of three: as many as half may be found.
    assert cells.loc[("needle", "2048"), "ci_high"] == pytest.approx(56.15, abs=0.01)


def test_no_lengths_where_there_is_one() -> None:
    rows = [record("needle", 0, 1.0, length=1024), record("ruler/vt", 0, 1.0, length=2048)]
    assert lengths_table(frame_of(rows), CONFIGURATION).empty
    assert lengths_table(frame_of(two_tasks()), CONFIGURATION).empty


def printed(show: Any, *shown: Any, width: int = 160) -> str:
    stream = io.StringIO()
    show(Console(file=stream, width=width), *shown)
    return stream.getvalue()


def layout_of(frame: pd.DataFrame, configuration: dict[str, Any], comparisons: list[dict] = ()) -> Layout:  # type: ignore[assignment]
    scores = scores_table(frame, configuration)
    tables = {"scores.csv": scores, "table.csv": wide_table(scores)}
    if comparisons:
        tables["comparisons.csv"] = pd.DataFrame(comparisons).astype({"within_noise": "boolean"})
    return lay_out(tables, configuration)


def test_what_is_printed_has_the_interval_of_the_mean_and_the_refused_comparison() -> None:
    frame = frame_of(two_tasks())
    low, high = scores_table(frame, CONFIGURATION).loc[2, ["ci_low", "ci_high"]]
    text = printed(print_scores, layout_of(frame, CONFIGURATION), PERCENT)
    assert f"75.0 {low:.0f}\u2013{high:.0f}" in text
    assert "62.0 unequal" in text  # of the mean over tasks: (60 + 64) / 2
    assert "examples: t/a 3, t/b 2" in text
    refused = {
        "family": "primary",
        "baseline": "snapkv",
        "method": "x",
        "budget": 64,
        "task": "mean",
        **dict.fromkeys(("difference", "within_noise", "discriminates"), None),
    }
    layout = layout_of(frame, CONFIGURATION, [refused])
    assert "unequal totals, not compared" in printed(print_grid, layout.comparisons[0])


def test_long_names_of_methods_are_read_beside_numbers_in_a_narrow_terminal() -> None:
    row = {
        "family": "primary",
        "baseline": "snapkv",
        "method": "window+adaptive",
        "budget": 64,
        "task": "t/a",
        "difference": -12.5,
        "ci_low": -35.25,
        "ci_high": 10.0,
        "p_adjusted": 1.0,
        "least_p": 1.0,
        "wins": 10,
        "ties": 26,
        "losses": 10,
        "within_noise": True,
        "discriminates": False,
    }
    frame = frame_of([record("t/a", i, 1.0) for i in range(2)])
    text = printed(print_grid, layout_of(frame, CONFIGURATION, [row]).comparisons[0], width=80)
    assert all(each in text for each in ("-12.5", "-35..+10", "1.000", "10/26/10"))
    assert any(line.split()[:2] == ["window+adaptive", "64"] for line in text.splitlines())


@pytest.mark.parametrize(("model", "other"), [("Meta-Llama-3-8B-Instruct", False), ("tiny", True)])
def test_the_printed_reference_says_when_the_model_differs(model: str, other: bool) -> None:
    frame = frame_of([record("longbench/trec", i, 1.0) for i in range(2)])
    configuration = {**CONFIGURATION, "model": {**CONFIGURATION["model"], "id": model}}
    configuration["tasks"] = {"longbench/trec": {"metric": "c"}}
    table = reference_table("cokv", {"scores.csv": scores_table(frame, configuration)}, configuration)
    grid, note = beside_reference(table)
    text = printed(print_grid, grid)
    assert ("no differences are taken" in note) == other
    assert ("+50.59" in text) != other


def test_a_real_run(tmp_path: Path) -> None:
    for name in ("run.json", "records.jsonl.gz"):
        shutil.copy(RESULTS / name, tmp_path)
    tables = write_tables(tmp_path)
    assert set(tables) == {"scores.csv", "table.csv", "comparisons.csv", "needle.csv", "lengths.csv"}
    records = read_records(tmp_path)
    lengths = pd.read_csv(tmp_path / "lengths.csv")
    for row in lengths[lengths["method"] == "cokv"].to_dict("records"):
        mine = [
            r["score"]
            for r in records
            if (r["task"], r["method"], r["budget"], r["length"]) == ("needle", "cokv", row["budget"], row["length"])
        ]
        assert (len(mine), 100 * np.mean(mine)) == (row["n"], pytest.approx(row["score"], abs=1e-4))
    beside = write_tables(tmp_path, reference="cokv")["reference.csv"]
    assert beside["task"].nunique() == 17
    assert not beside["same_model"].any()  # another model's scores: shown, not subtracted
    assert beside["difference"].isna().all()


def test_an_answer_with_half_a_character_is_tabulated_like_any_other(tmp_path: Path) -> None:
    lines = gzip.decompress((RESULTS / "records.jsonl.gz").read_bytes()).decode().splitlines()
    shutil.copy(RESULTS / "run.json", tmp_path)
    (tmp_path / "records.jsonl").write_text("\n".join(lines) + "\n")
    plain = write_tables(tmp_path)["scores.csv"]
    first = {**json.loads(lines[0]), "prediction": "half \ud83d"}
    (tmp_path / "records.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    pd.testing.assert_frame_equal(write_tables(tmp_path)["scores.csv"], plain)


def test_a_reference_without_the_runs_tasks_is_refused_and_the_other_tables_are_there(tmp_path: Path) -> None:
    lines = gzip.decompress((RESULTS / "records.jsonl.gz").read_bytes()).decode().splitlines(keepends=True)
    (tmp_path / "records.jsonl").write_text("".join(line for line in lines if '"task": "needle"' in line))
    run = json.loads((RESULTS / "run.json").read_text())
    # While other tasks of the run may still be measured, nothing is missing yet.
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert "reference.csv" not in write_tables(tmp_path, reference="cokv")
    run["configuration"]["tasks"] = {"needle": run["configuration"]["tasks"]["needle"]}
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(RequestError, match="none of the run's scores"):
        write_tables(tmp_path, reference="cokv")
    there = {path.name for path in tmp_path.glob("*.csv")}
    assert there == {"scores.csv", "table.csv", "comparisons.csv", "needle.csv", "lengths.csv"}


@pytest.mark.parametrize(("width", "single"), [(60, False), (160, True)])
def test_tasks_that_do_not_fit_are_summed_up(width: int, single: bool) -> None:
    names = [f"longbench/{name}" for name in ("trec", "hotpotqa", "samsum", "lcc")]
    frame = frame_of([record(name, i, 1.0) for name in names for i in range(2)])
    configuration = {**CONFIGURATION, "tasks": {name: {"metric": "c"} for name in names}}
    text = printed(print_scores, layout_of(frame, configuration), PERCENT, width=width)
    table = text.partition("Model")[0]
    assert all((name in table) == single for name in names)
    assert ("The 4 tasks one by one are in table.csv" in text) != single
    assert "mean" in text
    assert "\u2026" not in text


@pytest.mark.parametrize(
    ("request_", "stored", "expected"),
    [
        ({"baseline": "cokv,snapkv"}, None, ["cokv", "snapkv"]),
        ({"baseline": "snapkv:kernel=011"}, None, ["snapkv:kernel=11"]),
        # A table that names no method of the run says nothing, and neither does a damaged one.
        ({"baseline": "cokv"}, "baseline\nh2o\n", ["cokv"]),
        ({"baseline": "cokv"}, "", ["cokv"]),
        ({"baseline": "cokv"}, "baseline\nsnapkv\nsnapkv\n", ["snapkv"]),
        # Neither the full cache nor a ceiling is compared with.
        ({"baseline": "full,oracle"}, "baseline\nfull\noracle\n", []),
        ({"baseline": ["cokv"]}, None, []),
        ({"method": "full"}, None, []),
        ("cokv", None, []),
        (None, None, []),
    ],
)
def test_baselines_are_those_of_the_comparisons_or_of_the_request(
    tmp_path: Path, request_: Any, stored: str | None, expected: list[str]
) -> None:
    content = make_run(tmp_path / "run") / "run.json"
    described = json.loads(content.read_text())
    methods = ["full", "snapkv", "snapkv:kernel=11", "cokv", "oracle"]
    content.write_text(json.dumps(described if request_ is None else {**described, "request": request_}))
    if stored is not None:
        (tmp_path / "run" / "comparisons.csv").write_text(stored)
    assert named_baselines(tmp_path / "run", {"methods": methods}) == expected
