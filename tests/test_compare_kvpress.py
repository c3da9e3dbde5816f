"""`scripts/compare_kvpress.py` without kvpress: it says so and ends, and its counts are right on a stub."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.kvcache import Selection
from tests.scripted import SCRIPTS, script

BUDGETS = (24, 80)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    return script("compare_kvpress")


class Streaming:
    """Stands in kvpress's place: every press keeps four sinks and the newest tokens, and answers with one id."""

    missing = ""
    versions: Mapping[str, str] = {"kvpress": "stub"}

    def __init__(self, python: str, folder: Path) -> None:
        self.shape: tuple[int, int] = (3, 2)
        self.tokens = 0

    def ask(self, request: Mapping[str, Any]) -> Any:
        if "cell" in request:
            ratio = request["cell"]["ratio"]
            kept = self.kept(ratio)
            size = sum(len(head) for layer in kept for head in layer)
            return {"kept": kept, "bytes": size, "ids": [5, 6, 7], "prefill": 3.0, "decode": 1.0}
        self.tokens = len(request["ids"])
        ratios = request["ratios"] if "kvzip" in request else [cell["ratio"] for cell in request["cells"]]
        return {"kept": [self.kept(ratio) for ratio in ratios]}

    def kept(self, ratio: float) -> list[list[list[int]]]:
        count = int(self.tokens * (1 - ratio))
        places = [*range(4), *range(self.tokens - count + 4, self.tokens)]
        return [[places] * self.shape[1]] * self.shape[0]

    def close(self) -> None:
        pass


def test_what_is_the_same_is_counted_as_the_same(
    module: ModuleType, texty_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Other", Streaming)
    module.main(
        name=str(texty_folder),
        names="needle",
        lengths="400",
        examples=2,
        budgets="24,80",
        kvpress_python="",
        out=tmp_path,
    )
    kept = {row["method"]: row for row in csv.DictReader((tmp_path / "positions.csv").open(encoding="utf-8"))}
    assert list(kept) == [pair.name for pair in module.PAIRS]
    assert all(kept["StreamingLLM"][f"same at {budget}"] == "100.00%" for budget in BUDGETS)
    assert kept["TOVA"]["same at 24"] != "100.00%"
    assert all(row[f"kvpress keeps at {budget}"] == "1.000" for row in kept.values() for budget in BUDGETS)

    figures = json.loads((tmp_path / "kvpress.json").read_text())
    cells = figures["prompts"][0]["cells"]
    assert all(cell["theirs"]["as_together"] for cell in cells)
    assert all(figures["prompts"][0]["grid_answers_same"])
    timed = [pair.name for pair in module.PAIRS if pair.timed]
    for run in figures["grid"]:
        assert run["cells"] == pytest.approx(4.0 * len(timed) * len(BUDGETS))
        assert run["times"] == pytest.approx(run["cells"] / run["grid"])

    rows = list(csv.DictReader((tmp_path / "cells.csv").open(encoding="utf-8")))
    assert [row["method"] for row in rows] == [name for name in timed for _ in BUDGETS]
    shares = [
        each["ours"]["bytes"] / (figures["prompts"][0]["tokens"] * cells[0]["ours"]["bytes"] / 24) for each in cells
    ]
    assert shares[1] / shares[0] == pytest.approx(80 / 24)
    assert all(row["answers alike"] == "0 of 2" for row in rows)


def test_agreement_is_of_all_heads(module: ModuleType) -> None:
    mine = Selection(torch.tensor([[[1, 1, 0, 0], [0, 0, 1, 1]]], dtype=torch.bool))
    assert module.agreement(mine, [[[0, 2], [3]]]) == {"ours": 4, "theirs": 3, "both": 2}


def test_a_ratio_keeps_the_tokens_that_it_is_for(module: ModuleType) -> None:
    for tokens in range(60, 2100):
        for budget in (7, 32, 59):
            # As kvpress counts what it keeps.
            assert int(tokens * (1 - module.ratio(tokens, budget))) == budget


def test_without_kvpress_it_is_skipped(texty_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        SCRIPTS / "compare_kvpress.py",
        "--kvpress-python",
        sys.executable,
        "--model",
        texty_folder,
        "--out",
        out,
    ]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Skipped: kvpress cannot be imported")
    assert not out.exists()


def test_an_interpreter_that_is_not_there_is_refused(module: ModuleType, texty_folder: Path, tmp_path: Path) -> None:
    """A wrong path is a mistake; only a missing kvpress is a reason to skip."""
    with pytest.raises(RequestError, match="/no/such/python cannot be started"):
        module.main(name=str(texty_folder), kvpress_python="/no/such/python", out=tmp_path / "out")


def test_what_cannot_be_compared_is_refused(module: ModuleType, texty_folder: Path) -> None:
    with pytest.raises(RequestError, match="name no share of the prompt"):
        module.main(name=str(texty_folder), budgets="25%")
    with pytest.raises(RequestError, match="loads 'some/model' from a folder"):
        module.main(name="some/model")


def test_positions_are_found_by_keys_and_by_masks() -> None:
    side = script("kvpress_side")
    keys = torch.arange(24.0).view(2, 4, 3)
    kept = keys[:, [3, 1]]
    assert side.positions(kept, None, side.places_of(keys)) == [[1, 3], [1, 3]]
    masked = (torch.zeros(3), torch.tensor([0, 0, 1]), torch.tensor([2, 0, 3]))
    assert side.positions(keys, masked, side.places_of(keys)) == [[1, 3], [0, 1, 2]]


def test_the_page_says_what_was_measured() -> None:
    """Its tables are those of the results; the second one has one budget of three."""
    folder = SCRIPTS.parent / "results/comparison/kvpress"
    page = (SCRIPTS.parent / "docs/comparison.md").read_text(encoding="utf-8")
    figures = json.loads((folder / "kvpress.json").read_text(encoding="utf-8"))
    positions = list(csv.DictReader((folder / "positions.csv").open(encoding="utf-8")))
    cells = list(csv.DictReader((folder / "cells.csv").open(encoding="utf-8")))
    (alike,) = re.findall(r"holds at every budget for: ([^.]*)\.", page)
    for row in positions:
        shares = [row[f"same at {budget}"] for budget in figures["budgets"]]
        if set(shares) == {"100.00%"}:
            assert row["method"] in " ".join(alike.split()).split("; ")
        else:
            assert f"\n| {' | '.join([row['method'], *shares, row['why']])} |\n" in page
    for row in cells:
        method, budget, *rest = row.values()
        assert budget != "128" or f"\n| {' | '.join([method, *rest[:4]])} |\n" in page
    short, long = (run["times"] for run in figures["grid"])
    assert f"{short:.1f} times as much CPU time" in " ".join(page.split())
    assert f"{long:.1f} times on 2k" in " ".join(page.split())
