"""`cokv-bench head-scores`: a file that `eval` takes, the same under its earlier name."""

import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest

from cokv_bench.budgets import HeadScores
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
