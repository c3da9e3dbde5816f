"""What lists, helps, shows files or refuses a name imports no PyTorch, whose import takes longer than all of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cokv_bench.budgets import embedded
from cokv_bench.catalogue import KINDS
from cokv_bench.doctor import _DRIVERS
from tests.documented import ROOT

HEAVY = ("torch", "transformers", "scipy", "sklearn", "datasets", "accelerate", "ray")
TABLES = ("pandas", "plotly", "matplotlib")

#: Refusals, with a word of what they say.
UNKNOWN = {
    "ls methodz": "did you mean methods",
    "eval --metod snapkv": "No such option",
    "eval --method snapkw": "did you mean snapkv",
    "eval --tasks nedle": "did you mean needle",
    "eval --tasks ruler/vtt": "did you mean ruler/vt",
    "eval --tasks ruler/qa_1": "needs a file in SQuAD's shape",
    "eval --metric f2": "Unknown metric",
    "eval --engine rai": "did you mean ray",
    "profile --tasks nedle": "did you mean needle",
    "profile --tasks longbench/hotpot": "did you mean longbench/hotpotqa",
    "profile --utility loglk": "did you mean loglik",
    "eval --split tset": "did you mean test",
    "eval --shard 9/2": "is not a shard",
    "profile --estimator svs": "did you mean ssv",
    "profile --sampling slics": "did you mean slices",
    "profile --metric f2": "Unknown metric",
    "profile --leave-out a=needle,a=ruler": "Two families to leave out are called 'a'",
    "search --leave-out a=needle,a=ruler": "Two families to leave out are called 'a'",
    "search --tasks nedle": "did you mean needle",
    "search --utility loglk": "did you mean loglik",
    "search --metric f2": "Unknown metric",
    "tune --method snapkw": "did you mean snapkv",
    "tune --tasks nedle": "did you mean needle",
    "tune --utility loglk": "did you mean loglik",
    "tune --metric f2": "Unknown metric",
    "bench --method snapkw": "did you mean snapkv",
    "reproduce smollm": "did you mean smollm2",
}

# After each command the modules that it should have done without; those of later ones would be the same.
RUN = """
import contextlib, io, sys
import typer
from cokv_bench.cli import main, make_app

unwanted, lines = sys.argv[1].split(","), sys.argv[2].split("\\n")
if "--help" in lines:
    lines += [f"{name} --help" for name in typer.main.get_command(make_app()).commands]
for line in lines:
    sys.argv, said = ["cokv-bench", *line.split("\\t")[0].split()], io.StringIO()
    status = 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            main()
        except SystemExit as stop:
            status = stop.code or 0
    found = [name for name in unwanted if name in sys.modules]
    assert not found, f"{line} imports {found}"
    expected = line.partition("\\t")[2]
    assert status == (2 if expected else 0) or line == "doctor", f"{line} ended with {status}: {said.getvalue()}"
    assert expected in " ".join(said.getvalue().split()), f"{line} said {said.getvalue()}"
"""


def do_without(modules: tuple[str, ...], lines: list[str], folder: Path) -> None:
    """Run commands, in one process of its own, that must not import these modules."""
    command = [sys.executable, "-c", RUN, ",".join(modules), "\n".join(lines)]
    # Where no number of threads is set, `doctor` times PyTorch.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_lists_help_and_version(tmp_path: Path) -> None:
    do_without(HEAVY + TABLES, ["--version", "--help", *(f"ls {kind}" for kind in KINDS)], tmp_path)


def test_unknown_names(tmp_path: Path) -> None:
    do_without(HEAVY + TABLES, [f"{line}\t{said}" for line, said in UNKNOWN.items()], tmp_path)


def test_names_of_what_tables_compare_with(tmp_path: Path) -> None:
    asked = {"eval --baseline snapkw": "did you mean snapkv", "eval --reference cokw": "did you mean cokv"}
    do_without(HEAVY, [f"{line}\t{said}" for line, said in asked.items()], tmp_path)


@pytest.mark.skipif(any(Path(driver).exists() for driver in _DRIVERS), reason="a GPU's name is asked of PyTorch")
def test_doctor(tmp_path: Path) -> None:
    do_without(HEAVY + TABLES, ["doctor"], tmp_path)


def test_files_and_runs_are_shown(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the page needs Plotly")
    run, files = ROOT / "results" / "smollm2-135m", embedded.values_path().parent
    do_without(
        HEAVY,
        [
            "inspect",
            *(f"inspect {path}" for path in sorted(files.glob("*.json"))),
            f"inspect {run}",
            f"report {run} --terminal",
            f"report {run} --out report.html",
        ],
        tmp_path,
    )
