"""`cokv-bench inspect` from outside: every kind of file and folder."""

import shutil
from pathlib import Path

import pytest

from cokv_bench.budgets import embedded
from tests.report.made_run import make_run
from tests.report.test_logprobs import make_logprobs

RESULTS = Path(__file__).resolve().parents[2] / "results"


def test_the_embedded_profile_by_default(cli) -> None:
    status, out, err = cli("inspect")
    assert status == 0, err
    assert "smollm2-135m" in out
    assert "Most valuable of 90 heads" in out
    assert "standard error" in out
    assert "▒" in out


@pytest.mark.parametrize(
    ("path", "says"),
    [(embedded.scores_path(), "Source: "), (embedded.shares_path(), "Searched: "), (embedded.values_path(), "Made on")],
)
def test_files(cli, path: Path, says: str) -> None:
    status, out, err = cli("inspect", path, "--budget", "64")
    assert status == 0, err
    assert says in out
    assert "Tokens per head at budget 64" in out


def test_a_budget_file_and_a_profile_folder(cli, tmp_path: Path) -> None:
    cli("budgets", "--budget", "96")
    status, out, err = cli("inspect", "cokv-96.budgets.json")
    assert status == 0, err
    assert "8640 in all, budget 96" in out
    assert "Tokens per head at budget 96" in out
    (tmp_path / "profile").mkdir()
    shutil.copy(embedded.values_path(), tmp_path / "profile" / "values.json")
    assert cli("inspect", "profile")[0] == 0


def test_a_run_and_a_benchmark(cli, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    status, out, err = cli("inspect", "run")
    assert status == 0, err
    assert "168, of 2 tasks and 4 methods" in out
    status, out, err = cli("inspect", RESULTS / "gpu" / "decode")
    assert status == 0, err
    assert "Decoding time" in out


def test_log_probabilities(cli, tmp_path: Path) -> None:
    make_logprobs(tmp_path / "evidence", tables=True)
    status, out, err = cli("inspect", "evidence")
    assert status == 0, err
    assert "Log-probabilities of reference answers: evidence" in out
    assert "Measured: 168, of 2 tasks and 4 methods" in out
    assert "-1.500† -4.00 to" in out


@pytest.mark.parametrize(("path", "says"), [("none.json", "none.json"), (".", "neither"), ("bad.json", "of kind")])
def test_what_is_none_of_ours(cli, tmp_path: Path, path: str, says: str) -> None:
    (tmp_path / "bad.json").write_text('{"kind": "a cake"}')
    status, _, err = cli("inspect", path)
    assert status == 2
    assert says in err
