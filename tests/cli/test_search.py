"""`cokv-bench search`, and evaluating what it found."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

NEEDLES = ("--tasks", "needle", "--lengths", "300", "--examples", "4")


def test_what_a_search_found_is_evaluated_by_shares_and_by_files(cli, texty_folder: Path) -> None:
    status, out, err = cli(
        *("search", "--model", texty_folder, *NEEDLES, "--budget", "20,30", "--utility", "agreement,loglik"),
        *("--steps", "3", "--kernel", "5", "--pooling", "avg", "--out", "found"),
    )
    assert status == 0, err
    assert "Tokens per head at budget" in out
    assert "at 20" in out
    assert "at 30" in out
    names = {path.name for path in Path("found").iterdir()}
    assert names == {"search.jsonl", "shares.json", "cokv-search-20.budgets.json", "cokv-search-30.budgets.json"}
    # The same command has nothing left to do.
    before = {path.name: path.read_bytes() for path in Path("found").iterdir()}
    assert cli("search", "--model", texty_folder, *NEEDLES, "--budget", "20,30", "--utility", "agreement,loglik",
               "--steps", "3", "--kernel", "5", "--pooling", "avg", "--out", "found")[0] == 0  # fmt: skip
    assert {path.name: path.read_bytes() for path in Path("found").iterdir()} == before
    asked = ("eval", "--model", texty_folder, *NEEDLES, "--method", "snapkv,cokv-search", "--budget", "20,30")
    status, _, err = cli(*asked, "--shares", "found", "--out", "one")
    assert status == 0, err
    files = [part for name in sorted(names) if "budgets" in name for part in ("--budgets", f"found/{name}")]
    status, _, err = cli(*asked, *files, "--out", "two")
    assert status == 0, err
    one, two = (pd.read_csv(Path(folder) / "scores.csv") for folder in ("one", "two"))
    pd.testing.assert_frame_equal(one, two)
    assert one["exact_total"].all()
    # Searched budgets rank tokens as they did in the search, the others as SnapKV does, unless all are told how to.
    configuration = json.loads(Path("one/run.json").read_text())["configuration"]
    assert (configuration["kernel"], configuration["pooling"]) == (7, "max")
    searched = configuration["head_budgets"]["cokv-search"]
    assert (searched["kernel"], searched["pooling"]) == (5, "avg")
    assert cli(*asked, "--shares", "found", "--kernel", "7", "--out", "three")[0] == 0
    told = json.loads(Path("three/run.json").read_text())["configuration"]["head_budgets"]["cokv-search"]
    assert "kernel" not in told
    assert told["pooling"] == "avg"
    status, _, err = cli(*asked, "--shares", "found", "--split", "profile")
    assert status == 2
    assert "were made from the profile split of needle" in err


def test_several_rankings_are_searched_on_the_same_prompts(cli, texty_folder: Path) -> None:
    asked = ("search", "--model", texty_folder, *NEEDLES, "--utility", "loglik", "--budget", "20", "--steps", "2")
    status, out, err = cli(*asked, "--ranking", "window:kernel=5,laq:draft=2:kernel=3", "--out", "both")
    assert status == 0, err
    assert {path.name for path in Path("both").iterdir()} == {"window,kernel=5", "laq,draft=2,kernel=3,observe=32"}
    assert "under 'window:kernel=5'" in " ".join(out.split())
    status, _, err = cli(*asked, "--ranking", "window:kernel=5", "--out", "one")
    assert status == 0, err
    alone, beside = (
        json.loads(Path(f"{folder}/shares.json").read_text()) for folder in ("one", "both/window,kernel=5")
    )
    assert alone["log_shares"] == beside["log_shares"]
    # A file of one budget knows its ranking as well as one of shares does.
    budgets = "both/laq,draft=2,kernel=3,observe=32/cokv-search-20.budgets.json"
    evaluated = ("eval", "--model", texty_folder, *NEEDLES, "--utility", "loglik", "--budget", "20")
    for name, file in (("a", "both/laq,draft=2,kernel=3,observe=32"), ("b", budgets)):
        assert cli(*evaluated, "--method", "cokv-search", "--heads", file, "--out", name)[0] == 0
    first, second = (pd.read_csv(Path(name) / "logprobs.csv") for name in ("a", "b"))
    pd.testing.assert_frame_equal(first, second)


def test_families_are_left_out_in_turn_on_prompts_that_are_kept(cli, texty_folder: Path) -> None:
    asked = (
        *("search", "--model", texty_folder, "--tasks", "needle,ruler/niah_single_1,ruler/niah_single_2"),
        *(
            "--lengths",
            "400",
            "--examples",
            "2",
            "--utility",
            "loglik",
            "--budget",
            "20",
            "--steps",
            "2",
            "--prompts",
            "prompts",
        ),
    )
    status, _, err = cli(*asked, "--leave-out", "needle,some=ruler/niah_single_2+needle", "--out", "turns")
    assert status == 0, err
    assert {path.name for path in Path("turns").iterdir()} == {"without-needle", "without-some"}
    tasks = [json.loads(Path(f"turns/{name}/shares.json").read_text())["tasks"] for name in os.listdir("turns")]
    assert sorted(tasks, key=len) == [["ruler/niah_single_1"], ["ruler/niah_single_1", "ruler/niah_single_2"]]
    # Needles are left out in both turns, so their prompts are not read.
    assert len(list(Path("prompts").iterdir())) == 4
    status, _, err = cli(*asked, "--leave-out", "needle,longbench", "--out", "none")
    assert status == 2
    assert "No task of this search is 'longbench', which it is to leave out" in err
    assert cli(*asked, "--leave-out", "needle+ruler", "--out", "none")[0] == 2
    assert not Path("none").exists()


def test_experts_leave_a_file_each(cli, texty_folder: Path) -> None:
    asked = ("search", "--model", texty_folder, *NEEDLES, "--utility", "loglik", "--budget", "20", "--steps", "2")
    status, out, err = cli(*asked, "--ranking", "window,accumulated", "--experts", "3", "--out", "three")
    assert status == 0, err
    assert {path.name for path in Path("three").iterdir()} == {
        "search.jsonl",
        *(f"expert-{number}.shares.json" for number in (1, 2, 3)),
    }
    assert "the best of 3 experts" in " ".join(out.split())
    assert cli(*asked, "--experts", "1")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--utility", "metric"), "no gradient to follow"),
        (("--ranking", "windw"), "did you mean window"),
        (("--ranking", "full"), "keeps all tokens"),
        (("--ranking", "laq,window+adaptive"), "has a split of its own"),
        (("--budget", "8"), "nothing beyond the observation window"),
        (("--budget", "x"), "'x'"),
        (("--steps", "0"), "0 steps"),
        (("--kernel", "4"), "positive odd number"),
        (("--experts", "2", "--ranking", "window,accumulated,laq"), "2 experts cannot take turns over 3 rankings"),
        (("--pooling", "mean"), "takes max or avg, not 'mean'"),
        (("--time-limit", "soon"), "soon"),
        (("--tasks", "neddle"), "did you mean needle"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    cli, texty_folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    status, _, err = cli("search", "--model", texty_folder, *NEEDLES, *arguments)
    assert status == 2, err
    assert words in err
    assert "Traceback" not in err
    assert not Path("profiles").exists()


def test_shares_that_do_not_fit_are_refused(cli, texty_folder: Path) -> None:
    asked = ("eval", "--model", texty_folder, *NEEDLES, "--method", "cokv-search", "--budget", "20")
    status, _, err = cli(*asked)
    assert status == 2
    assert "make some with `cokv-bench search`, and name the file or its folder with --heads" in err
    assert cli("search", "--model", texty_folder, *NEEDLES, "--budget", "20", "--steps", "1", "--out", "found")[0] == 0
    good = json.loads(Path("found/shares.json").read_text())
    for change, words in (
        ({"log_shares": []}, "log_shares"),
        ({"model": {**good["model"], "weights": "00", "id": "other"}}, "other"),
        ({"schema": 7}, "schema version 7"),
    ):
        Path("bad.json").write_text(json.dumps({**good, **change}))
        status, _, err = cli(*asked, "--shares", "bad.json")
        assert status == 2
        assert words in err
        assert "Traceback" not in err
