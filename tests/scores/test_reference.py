"""Published scores: the files that come with the repository, and what is taken for a difference."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cokv_bench.errors import RequestError
from cokv_bench.policies import POLICIES
from cokv_bench.scores.reference import (
    COLUMNS,
    REFERENCES,
    NothingSharedError,
    check_shared,
    read_reference,
    reference_table,
)
from cokv_bench.tasks.longbench import expand

LLAMA = "meta-llama/Meta-Llama-3-8B-Instruct"


def configuration(model: str = LLAMA, **changes: Any) -> dict[str, Any]:
    return {"model": {"id": model}, **changes}


def scores(cells: dict[tuple[str, int | None, str], float]) -> dict[str, pd.DataFrame]:
    rows = [
        {"method": method, "budget": budget, "task": task, "n": 7, "score": score, "ci_low": 1.0, "ci_high": 99.0}
        for (method, budget, task), score in cells.items()
    ]
    return {"scores.csv": pd.DataFrame(rows).astype({"budget": "Int64"})}


@pytest.mark.parametrize("name", REFERENCES)
def test_every_published_row_is_usable(name: str) -> None:
    table = read_reference(name)
    assert table["source"].str.contains(r"arXiv \d{4}\.\d{5}").all()
    assert set(table["method"]) <= set(POLICIES)
    assert set(table["task"]) <= {"mean", *expand("longbench")}
    assert (table["budget"].dropna() > 0).all()
    assert (table["budget"].isna() == (table["method"] == "full")).all()
    assert table["score"].between(0, 100).all()
    assert not table.duplicated(["model", "mode", "method", "budget", "task"]).any()


def test_published_means_are_those_of_the_published_tasks() -> None:
    table = read_reference("cokv").fillna({"budget": 0})
    cells = list(table.groupby(["method", "budget"]))
    assert len(cells) == 11
    for _, cell in cells:
        parts = cell[cell["task"] != "mean"]
        assert list(parts["task"]) == expand("longbench")
        assert parts["score"].mean() == pytest.approx(cell.loc[cell["task"] == "mean", "score"].item(), abs=0.02)


def test_known_numbers() -> None:
    rows = read_reference("adakv").set_index(["model", "mode", "method", "budget"])["score"]
    assert rows["Llama-3.1-8B-Instruct", "question-aware", "snapkv", 128] == 42.03
    assert rows["Mistral-7B-Instruct-v0.2", "question-aware", "ada-pyramid", 2048] == 42.04
    assert rows["Llama-3.1-8B-Instruct", "question-agnostic", "ada-snapkv", 512] == 32.82
    assert len(rows) == 2 + 2 * 5 * 5 + 2 * 5


@pytest.mark.parametrize(("model", "same"), [(LLAMA, True), ("/models/meta-llama-3-8b-instruct/", True), ("x", False)])
def test_differences_are_taken_for_the_published_model_only(model: str, same: bool) -> None:
    cells = {("snapkv", 64, "longbench/trec"): 50.0, ("full", None, "longbench/trec"): 70.0, ("h2o", 64, "needle"): 1.0}
    table = reference_table("cokv", scores(cells), configuration(model)).set_index("method")
    assert set(table.index) == {"snapkv", "full"}
    assert (table["same_model"] == same).all()
    assert table.loc["snapkv", "published"] == 49.41
    assert pd.isna(table.loc["full", "budget"])
    if same:
        assert table.loc["snapkv", "difference"] == pytest.approx(0.59)
        assert table.loc["full", "difference"] == pytest.approx(-4.12)
    else:
        assert table["difference"].isna().all()


@pytest.mark.parametrize("missing", [0, 1])
def test_the_mean_is_compared_for_the_same_16_tasks_only(missing: int) -> None:
    tasks = expand("longbench")[missing:]
    cells = {("cokv", 64, task): 40.0 for task in [*tasks, "mean"]}
    table = reference_table("cokv", scores(cells), configuration()).set_index("task")
    assert table.loc[tasks, "difference"].notna().all()
    assert pd.isna(table.loc["mean", "difference"]) == bool(missing)
    if not missing:
        assert table.loc["mean", "difference"] == pytest.approx(1.27)


def test_the_mode_decides_which_rows_are_meant() -> None:
    cells = scores({("snapkv", 128, "mean"): 30.0})
    aware = reference_table("adakv", cells, configuration())
    assert sorted(aware["published"]) == [34.55, 42.03]
    agnostic = reference_table("adakv", cells, configuration(question_agnostic=True))
    assert list(agnostic["published"]) == [26.26]
    with pytest.raises(RequestError, match="no question-agnostic scores, only question-aware"):
        reference_table("cokv", cells, configuration(question_agnostic=True))


def test_nothing_shared_says_what_there_is() -> None:
    with pytest.raises(RequestError, match=r"methods full, snapkv.*budgets 64, 1024.*longbench/narrativeqa.*14 more"):
        reference_table("cokv", scores({("snapkv", 128, "needle"): 30.0}), configuration())


def test_a_part_of_a_run_may_share_nothing_yet(tmp_path: Path) -> None:
    settings = configuration(methods=["full", "snapkv"], budgets=[64], tasks={"needle": {}, "longbench/trec": {}})
    check_shared("cokv", settings)
    with pytest.raises(NothingSharedError):
        reference_table("cokv", scores({("snapkv", 64, "needle"): 30.0}), settings)
    # Nor will the rest of it share anything: the paper has no needles, and no such budget.
    for changes in ({"tasks": {"needle": {}}}, {"methods": ["snapkv"], "budgets": ["25%", 65]}):
        with pytest.raises(NothingSharedError, match="none of the run's scores"):
            check_shared("cokv", {**settings, **changes})


def line(**changes: str) -> str:
    row = dict(zip(COLUMNS, ("S", "M", "a/m b/m", "question-aware", "snapkv", "64", "needle", "12.5"), strict=True))
    return ",".join({**row, **changes}.values())


def test_a_file_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(f"{','.join(COLUMNS)}\n{line()}\n")
    table = reference_table(str(path), scores({("snapkv", 64, "needle"): 13.0}), configuration("else/M"))
    assert table["difference"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("source,model\na,b\n", "lacks the columns model_ids, mode"),
        (",".join(COLUMNS) + "\n", "holds no rows"),
        ("", "lacks the columns"),
        (f"{','.join(COLUMNS)}\n{line(score='many')}\n", "line 2: score 'many' is not a number"),
        (f"{','.join(COLUMNS)}\n{line(score='nan')}\n", "score 'nan'"),
        (f"{','.join(COLUMNS)}\n{line(budget='-3')}\n", "budget '-3'"),
        (f"{','.join(COLUMNS)}\n{line(mode='blind')}\n", "mode 'blind'"),
        (f"{','.join(COLUMNS)}\n{line(source='')}\n", "'source' is empty"),
        ("\udcff", "cannot be read"),
    ],
)
def test_files_that_are_no_reference(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RequestError, match=words):
        read_reference(str(path))


def test_names_that_are_no_reference(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="did you mean cokv"):
        read_reference("cokvv")
    with pytest.raises(RequestError, match="cannot be read"):
        read_reference(str(tmp_path / "nowhere.csv"))
    for name in REFERENCES:
        read_reference(name)
