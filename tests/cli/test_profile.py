"""`cokv-bench profile` from outside: when it stops, what it says, what it refuses."""

import json
from pathlib import Path

import pytest

NEEDLES = ("--tasks", "needle", "--lengths", "400", "--examples", "2")


@pytest.fixture
def one_line(cli):
    """The command line with its output in one line each, for sentences that a narrow terminal breaks."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status, out, err = cli(*arguments)
        return status, " ".join(out.split()), " ".join(err.split())

    return run


def test_targets_are_live_in_the_progress_and_kept_in_the_values(one_line, texty_folder: Path) -> None:
    arguments = ("profile", "--model", texty_folder, *NEEDLES, "--out", "p", "--memory-limit", "0.5")
    status, out, err = one_line(*arguments, "--target-rank-correlation", "0.3", "--samples", "2000")
    assert status == 0, err
    assert "evaluations after" in err
    assert "halves: rank correlation" in err
    assert "published rule: below 0.1667" in err
    stored = json.loads(Path("p/values.json").read_text())["status"]
    assert stored["stopped_by"] == "rank correlation"
    assert f"ended by rank correlation. Median standard error {stored['standard_error']:.4g};" in out
    status, out, err = one_line(*arguments, "--published-stop", "--target-se", "1000")
    assert status == 0, err
    assert json.loads(Path("p/values.json").read_text())["status"]["stopped_by"] in (
        "standard error",
        "mean absolute difference",
    )


def test_prompts_beyond_the_memory_limit_are_said(one_line, texty_folder: Path) -> None:
    arguments = ("profile", "--model", texty_folder, *NEEDLES, "--samples", "10")
    status, out, err = one_line(*arguments, "--out", "p", "--memory-limit", "0.000001")
    assert status == 0, err
    assert "2 of 2 prompts were kept in a file" in out
    assert "were kept in a file" not in one_line(*arguments, "--out", "q")[1]


def test_a_time_limit_ends_a_profile_without_a_number_of_samples(one_line, texty_folder: Path) -> None:
    status, _, err = one_line("profile", "--model", texty_folder, *NEEDLES, "--out", "p", "--time-limit", "1s")
    assert status == 0, err
    assert json.loads(Path("p/values.json").read_text())["status"]["stopped_by"] == "time limit"


def test_families_are_left_out_in_turn_of_one_ledger(one_line, texty_folder: Path) -> None:
    tasks = ("--tasks", "needle,ruler/niah_single_1", "--lengths", "400", "--examples", "1")
    arguments = ("profile", "--model", texty_folder, *tasks, "--samples", "10", "--out", "p")
    status, out, err = one_line(*arguments, "--leave-out", "needle,hidden=ruler/niah_single_1")
    assert status == 0, err
    assert "Head values without ruler/niah_single_1 are in p/without-hidden" in out
    tasks = {str(path): json.loads(path.read_text())["tasks"] for path in Path("p").rglob("values.json")}
    assert tasks == {
        "p/values.json": ["needle", "ruler/niah_single_1"],
        "p/without-needle/values.json": ["ruler/niah_single_1"],
        "p/without-hidden/values.json": ["needle"],
    }
    status, out, err = one_line("inspect", "p/without-hidden")
    assert status == 0, err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--time-limit", "soon"), "'soon' is not a time such as 90s, 15m or 2h."),
        (("--samples", "0"), "ask for at least one pair"),
        (("--target-se", "-1"), "target standard error is -1.0; it must be above 0"),
        (("--target-rank-correlation", "1"), "must be between 0 and 1"),
        (("--sampling", "slice"), "did you mean slices"),
        (("--sampling", "uniform", "--estimator", "ssv"), "ssv"),
        (("--memory-limit", "0"), "not above 0"),
        (("--leave-out", "longbench"), "No task of this profile is 'longbench', which it is to leave out"),
        (("--leave-out", "all=needle"), "Without the family 'all' no example of this profile is left"),
        (("--leave-out", "a=needle,a=ruler"), "Two families to leave out are called 'a'"),
        (("--leave-out", "needle", "--estimator", "cc", "--sampling", "neyman"), "with another --sampling"),
    ],
)
def test_requests_that_cannot_be_met(one_line, texty_folder: Path, options: tuple[str, ...], told: str) -> None:
    status, _, err = one_line("profile", "--model", texty_folder, *NEEDLES, "--out", "p", *options)
    assert status == 2
    assert told in err
    assert not Path("p").exists()


def test_samplings_are_listed(one_line) -> None:
    status, out, _ = one_line("ls", "samplings")
    assert status == 0
    for name in ("slices", "strata", "neyman", "antithetic", "permutation", "uniform"):
        assert name in out
