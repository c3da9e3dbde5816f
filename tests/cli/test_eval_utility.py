"""`cokv-bench eval --utility`: the grid measured with a utility in place of answers, and what older runs become."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cokv_bench.budgets import HeadShares
from cokv_bench.models import Model
from cokv_bench.report.folders import read_folders
from cokv_bench.search import SearchExamples
from cokv_bench.tasks.registry import TaskOptions, resolve
from tests.documented import ROOT
from tests.report.made_run import make_run

RULER = ROOT / "results" / "search" / "ruler"
TOYS = ROOT / "examples" / "toys"
NEEDLES = ("--tasks", "needle", "--lengths", "500", "--depths", "3")


@pytest.fixture(autouse=True)
def _restored(registries_restored: None) -> None:
    """Plug-ins of one test are none of the next."""


def records_of(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for path in Path(folder).glob("records*.jsonl") for line in path.read_text().splitlines()]


def test_log_probabilities_of_a_grid(cli, texty: Model, texty_folder: Path) -> None:
    tables = np.random.default_rng(0).normal(size=(2, 3, 2))
    HeadShares((16, 48), tables, 8, ("loglik",), (), (), texty.fingerprint, {}).save(Path("shares.json"))
    command = (
        *("eval", "--model", texty_folder, "--tasks", "needle,ruler/vt", "--lengths", "900", "--examples", "3"),
        *("--method", "full,snapkv,h2o,cokv-search", "--budget", "24,48", "--shares", "shares.json"),
        *("--utility", "loglik", "--baseline", "h2o,snapkv"),
    )
    status, out, err = cli(*command, "--out", "run")
    assert status == 0, err
    assert "gain over gap" in out
    assert "Nats per token over h2o, needle" in out
    assert "Nats per token over snapkv, needle" in out
    assert json.loads(Path("run/run.json").read_text())["configuration"]["utility"] == "loglik"
    records = records_of("run")
    assert {record["unit"] for record in records} == {"nats per token"}
    assert not any("prediction" in record for record in records)
    scores = pd.read_csv("run/logprobs.csv")
    assert scores["exact_total"].all()
    value = scores.set_index(["task", "method", "budget"])["logprob"]
    mean = np.mean([r["score"] for r in records if (r["task"], r["method"], r["budget"]) == ("needle", "h2o", 24)])
    assert value["needle", "h2o", 24] == pytest.approx(mean, abs=1e-4)
    assert pd.read_csv("run/comparisons.csv")["baseline"].unique().tolist() == ["h2o", "snapkv"]
    gaps = pd.read_csv("run/gaps.csv").set_index(["task", "method", "budget"])["closed"]
    assert gaps["needle", "snapkv", 24] == 0
    full = scores[scores["method"] == "full"].set_index("task")["logprob"]
    snap, found = value["ruler/vt", "snapkv", 48], value["ruler/vt", "cokv-search", 48]
    assert gaps["ruler/vt", "cokv-search", 48] == pytest.approx((found - snap) / (full["ruler/vt"] - snap), abs=1e-4)
    # The log-probabilities are those of the game's own utility.
    needles = resolve(["needle"], texty, TaskOptions(lengths=(900,), examples=3))
    examples = SearchExamples(texty, needles, ["loglik"], window=8, split="test")
    assert np.mean([examples.full(case) for case in range(3)]) == pytest.approx(full["needle"], abs=1e-4)
    # The same again changes nothing, and shares of several processes give the same tables.
    files = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    assert cli(*command, "--out", "run")[0] == 0
    assert files == {path.name: path.read_bytes() for path in Path("run").iterdir()}
    for shard in ("1/2", "2/2"):
        status, out, err = cli(*command, "--out", "shared", "--shard", shard)
        assert status == 0, err
        assert ("of 42 values exist so far" in out) == (shard == "1/2")
    for name in ("logprobs.csv", "gaps.csv", "table.md"):
        assert Path("shared", name).read_bytes() == files[name]


def test_gaps_need_both_ends(cli, texty_folder: Path) -> None:
    asked = ("--method", "snapkv,h2o", "--budget", "16,32", "--utility", "agreement", "--out", "run")
    status, out, err = cli("eval", "--model", texty_folder, *NEEDLES, *asked)
    assert status == 0, err
    assert "gap" not in out
    assert sorted(path.name for path in Path("run").iterdir()) == [
        *("comparisons.csv", "examples.jsonl", "logprobs.csv", "records.jsonl", "run.json"),
        *("table.csv", "table.md", "table.tex"),
    ]
    status, out, err = cli("report", "run", "--terminal")
    assert status == 0, err
    assert "Log-probability of the full cache's own answers" in " ".join(out.split())


def test_a_utility_of_a_plug_in_in_the_unit_of_its_own(cli, texty_folder: Path) -> None:
    asked = ("--plugin", TOYS / "likeness.py", "--method", "full,snapkv", "--budget", "16", "--utility", "likeness")
    status, out, err = cli("eval", "--model", texty_folder, *NEEDLES, *asked, "--out", "run")
    assert status == 0, err
    assert "Likeness (utility)" in out
    assert {record["unit"] for record in records_of("run")} == {"utility"}
    assert pd.read_csv("run/values.csv")["value"].between(0, 1).all()
    # A report knows it without the plug-in.
    (run,), _ = read_folders([Path("run")])
    assert run.unit.axis == "likeness (utility)"


def test_the_metric_as_a_utility_is_the_score(cli, texty_folder: Path) -> None:
    """Also where the question comes after compression; the task's score is a number from 0 to 1."""
    rows = [{"input": f"Which {i}?", "context": f"It is {i}. " * 20, "answers": ["It is Which of"]} for i in range(3)]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = ("--tasks", "jsonl:rows.jsonl", "--split", "all", "--metric", "qa_f1", "--method", "full,snapkv")
    shared = ("eval", "--model", texty_folder, *asked, "--budget", "12", "--question-agnostic", "--memory-limit", "1")
    assert cli(*shared, "--out", "scored")[0] == 0
    status, _, err = cli(*shared, "--utility", "metric", "--out", "measured")
    assert status == 0, err
    names = ("example", "method", "budget", "score", "unit", "kept_tokens", "question_tokens")
    one, other = ([[record[name] for name in names] for record in records_of(run)] for run in ("scored", "measured"))
    assert one == other
    assert {record["unit"] for record in records_of("scored")} == {"fraction"}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("--utility", "logilk"), "Unknown utility 'logilk'; did you mean loglik?"),
        (("--utility", "loglik", "--reference", "cokv"), "--reference has published scores"),
        (("--baseline", "snapkv,h3o", "--method", "full,snapkv,h2o"), "Unknown baseline 'h3o'; did you mean h2o?"),
    ],
)
def test_requests_that_are_refused(cli, asked: tuple[str, ...], says: str) -> None:
    status, _, err = cli("eval", "--model", "nowhere", *asked)
    assert status == 2
    assert says in err


def test_a_utility_without_a_number_is_refused(cli, texty_folder: Path) -> None:
    code = (TOYS / "likeness.py").read_text().replace('"likeness"', '"broken"')
    Path("broken.py").write_text(code.replace("return [", "return [float('nan')] or ["))
    asked = ("--plugin", "broken.py", "--method", "full,snapkv", "--budget", "16", "--utility", "broken")
    status, _, err = cli("eval", "--model", texty_folder, *NEEDLES, *asked, "--out", "run")
    assert status == 2
    assert "The utility 'broken' has no finite number for each of 2 selections" in err


def test_tables_are_counted_again_from_the_records_alone(cli) -> None:
    """Also those of runs whose records are hundredths of a log-probability, to the byte."""
    make_run(Path("run"))
    shutil.copytree(RULER, "ruler")
    Path("ruler/gaps.csv").unlink()
    status, out, err = cli("report", "--recount", "--terminal", "run", "ruler")
    assert status == 0, err
    assert "Recomputed the tables of ruler" in out
    assert Path("run/scores.csv").is_file()
    for name in ("gaps.csv", "comparisons.csv", "logprobs.csv"):
        assert Path("ruler", name).read_bytes() == (RULER / name).read_bytes()
