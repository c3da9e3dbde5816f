"""`cokv-bench reproduce` and `--dry-run`."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.costs.test_reproduction import SHAPE


def config(folder: Path, model: Path, method: str = "full,cokv") -> Path:
    needles = {"tasks": "needle", "lengths": 500, "depths": 3}
    document = {
        "description": "Profile and evaluate.",
        "model": str(model),
        "shape": SHAPE,
        "steps": [
            {"command": "profile", "options": {**needles, "samples": 24, "out": "profile"}},
            {
                "command": "eval",
                "options": {**needles, "method": method, "budget": 20, "profile": ["profile"], "out": "run"},
            },
        ],
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@pytest.mark.timeout(300)
def test_a_reproduction_runs_and_is_gone_through_again(cli, texty_folder: Path, tmp_path: Path) -> None:
    path = config(tmp_path, texty_folder)
    status, _, _ = cli("reproduce", path)
    assert status == 0
    assert list(pd.read_csv("run/table.csv")["method"]) == ["full", "cokv"]
    records = Path("run/records.jsonl").read_bytes()
    status, _, _ = cli("reproduce", path, "--device", "cpu")
    assert status == 0
    assert Path("run/records.jsonl").read_bytes() == records
    # An option that a step refuses ends it with what the step said.
    status, _, err = cli("reproduce", path, "--window", "21")
    assert status == 2
    assert "ended with status 2" in err


def test_dry_runs_do_nothing(cli, texty_folder: Path, tmp_path: Path) -> None:
    status, out, _ = cli("reproduce", config(tmp_path, texty_folder), "--dry-run")
    assert status == 0
    assert "1. cokv-bench profile" in out
    assert "PFLOP" in out
    status, out, err = cli(
        *("eval", "--model", texty_folder, "--tasks", "needle", "--lengths", "500", "--depths", "3"),
        *("--method", "full,snapkv", "--budget", "20,40", "--dry-run"),
    )
    assert status == 0, err
    name, prompts, tokens, answers, *_ = next(line for line in out.splitlines() if "needle" in line).split()
    assert (name, prompts, answers) == ("needle", "3", "9")
    assert 1300 < int(tokens.replace(",", "")) <= 1500
    assert not Path("results").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]


def test_dry_runs_say_what_they_cannot_count(cli, tmp_path: Path) -> None:
    step = {"method": "full,snapkv", "budget": 64, "max-length": 300}
    document = {
        "model": "m",
        "shape": SHAPE,
        "steps": [
            {"command": "eval", "options": {"tasks": "longbench-e", **step}},
            {"command": "eval", "options": {"tasks": "jsonl:none.jsonl", **step}},
        ],
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(document))
    status, out, err = cli("reproduce", tmp_path / "r.yaml", "--dry-run")
    assert status == 0, err
    lines = out.splitlines()
    planned = [line.split() for line in lines if line.startswith(" ")]
    assert [row[3:6] for row in planned if row[:2] == ["1.", "eval"]] == [["2,384", "715.2k", "4,768"]]
    assert not any(row[:1] == ["2."] for row in planned)
    assert any(line.startswith("Rows as published, which may be more") for line in lines)
    assert "Not counted: 2. eval jsonl:none.jsonl (Cannot read none.jsonl: No such file or directory)." in lines
