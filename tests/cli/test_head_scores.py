"""`cokv-bench head-scores`: a file that `eval` takes, the same under its earlier name."""

import runpy
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from cokv_bench.budgets import HeadScores, embedded
from tests.documented import ROOT


def test_head_scores_are_measured_and_used(cli, texty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = ("--model", str(texty_folder), "--lengths", "400", "--examples", "2")
    status, out, err = cli("head-scores", *shared, "--out", "scores.json")
    assert status == 0, err
    scores = HeadScores.load(Path("scores.json"))
    assert scores.tasks == ("needle",)
    assert len(scores.examples) == 2
    for budget in scores.betas:
        assert f"At {budget} tokens per head beta {scores.beta(budget):g} is best" in out
    monkeypatch.setattr(sys, "argv", ["headkv_scores.py", *shared, "--out", "earlier.json"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts" / "headkv_scores.py"), run_name="__main__")
    assert not ended.value.code
    assert Path("earlier.json").read_bytes() == Path("scores.json").read_bytes()
    needles = ("--tasks", "needle", "--lengths", "400", "--examples", "2", "--budget", "24")
    evaluated = ("--method", "full,headkv", "--head-scores", "scores.json", "--out", "run")
    status, _, err = cli("eval", "--model", texty_folder, *needles, *evaluated)
    assert status == 0, err
    assert pd.read_csv("run/scores.csv")["exact_total"].all()


def test_scores_of_another_model_are_not_replaced(cli, texty_folder: Path) -> None:
    shared = ("--model", str(texty_folder), "--lengths", "400", "--examples", "2", "--out", "scores.json")
    shutil.copy(embedded.scores_path(), "scores.json")
    status, _, err = cli("head-scores", *shared)
    assert status == 2
    assert "scores.json is of another model ('smollm2-135m', not " in " ".join(err.split())
    assert "would be lost; name another place with --out." in " ".join(err.split())
    assert Path("scores.json").read_bytes() == embedded.scores_path().read_bytes()
    # What is of the same model, or says nothing of one, is replaced.
    Path("scores.json").write_text("{}")
    for _ in range(2):
        status, _, err = cli("head-scores", *shared)
        assert status == 0, err
    assert HeadScores.load("scores.json").model["layers"] == 3
