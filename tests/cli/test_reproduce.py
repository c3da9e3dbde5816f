"""`cokv-bench reproduce` and `--dry-run`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from cokv_bench.cli.eval import evaluate
from cokv_bench.cli.profile import profile_heads
from cokv_bench.costs.reproduction import Step
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


def here(step: Step, request: Mapping[str, Any]) -> int:
    """For `spawned`."""
    {"profile": profile_heads, "eval": evaluate}[step.command].__wrapped__(**request)  # type: ignore[attr-defined]
    return 0


@pytest.mark.timeout(300)
def test_a_reproduction_runs_and_is_gone_through_again(
    cli, texty_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config(tmp_path, texty_folder)
    status, _, _ = cli("reproduce", path)
    assert status == 0
    assert list(pd.read_csv("run/table.csv")["method"]) == ["full", "cokv"]
    records = Path("run/records.jsonl").read_bytes()
    # The finished steps without processes of their own, whose starts would be most of the time.
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["cokv_bench.cli.reproduce"], "spawned", here)
        status, _, _ = cli("reproduce", path, "--device", "cpu")
    assert status == 0
    assert Path("run/records.jsonl").read_bytes() == records
    # An option that a step refuses ends it with what the step said.
    status, _, err = cli("reproduce", path, "--window", "21")
    assert status == 2
    assert "Step 1, `profile`, ended with status 2" in err


@pytest.mark.parametrize("further", [("foo",), ("-x", "3"), ("--device", "cpu", "foo"), ("--device=cpu", "foo")])
def test_what_no_step_takes_is_refused(cli, tmp_path: Path, further: tuple[str, ...]) -> None:
    status, _, err = cli("reproduce", config(tmp_path, Path("m")), *further)
    assert (status, "Nothing takes" in err) == (2, True)


@pytest.mark.parametrize("further", [("--config", "x.yaml"), ("--out=same",)])
def test_what_would_make_all_steps_alike_is_refused(cli, tmp_path: Path, further: tuple[str, ...]) -> None:
    status, _, err = cli("reproduce", config(tmp_path, Path("m")), *further)
    assert (status, f"Each step has a {further[0][:5]}" in err) == (2, True)


def test_a_folder_with_the_name_of_a_reproduction_is_none(cli, tmp_path: Path) -> None:
    for name in ("needle", "mine"):
        (tmp_path / name).mkdir()
    status, out, _ = cli("reproduce", "needle", "--dry-run")
    assert (status, "cokv-bench eval" in out) == (0, True)
    status, _, err = cli("reproduce", "mine", "--dry-run")
    assert (status, "Unknown reproduction 'mine'" in err) == (2, True)


@pytest.mark.parametrize("all_processes", [True, False])
def test_an_interrupt_stops_the_step_too(texty_folder: Path, tmp_path: Path, all_processes: bool) -> None:
    document = yaml.safe_load(config(tmp_path, texty_folder).read_text())
    document["steps"][0]["options"]["samples"] = 10**6
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    command = [sys.executable, "-m", "cokv_bench", "reproduce", "config.yaml"]
    # What starts the tests in the background may have it ignore interrupts, and a child would inherit that.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    signal.signal(signal.SIGINT, ignored)
    try:
        while not (tmp_path / "profile" / "ledger.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.05)
        (os.killpg if all_processes else os.kill)(process.pid, signal.SIGINT)
        # Standard error ends with the last process that has it.
        _, err = process.communicate(timeout=60)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1
    assert err.count("Error: ") == err.count("Error: Stopped; what was done is kept") == 1


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
