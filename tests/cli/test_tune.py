"""`cokv-bench tune`, and evaluating with what it chose."""

import json
from pathlib import Path

from cokv_bench.budgets.knobs import Knobs
from cokv_bench.runs.tuning import CANDIDATES

NEEDLES = ("--tasks", "needle", "--lengths", "300", "--examples", "3")
METHODS = ("--method", "full,streaming-llm,snapkv,pyramidkv,ada-snapkv")


def test_knobs_are_chosen_on_profile_examples_and_used_by_default_options(cli, texty_folder: Path) -> None:
    asked = ("tune", "--model", texty_folder, *NEEDLES, *METHODS, "--budget", "20,40", "--out", "knobs.json")
    status, out, err = cli(*asked)
    assert status == 0, err
    assert "profile examples of needle" in out
    knobs = Knobs.load("knobs.json")
    tuning = knobs.benchmarks["needle"]
    assert set(tuning.curves) == {"streaming-llm", "snapkv", "pyramidkv", "ada-snapkv"}
    for method, curves in tuning.curves.items():
        assert set(curves) == {20, 40}
        for budget, tried in curves.items():
            # The published setting is tried first, nothing twice, and the best is chosen.
            assert tried[0].options == {knob: CANDIDATES[knob][0] for knob in tried[0].options}
            assert len({json.dumps(each.options, sort_keys=True) for each in tried}) == len(tried)
            best = max(each.utility for each in tried)
            assert next(each for each in tried if each.utility == best).options == tuning.chosen(method, budget)
    tried = tuning.curves["pyramidkv"][20]
    assert {each.options["beta"] for each in tried if "beta" in each.options} == set(CANDIDATES["beta"]) - {20}
    # The same command has nothing left to measure.
    before = Path("knobs.json").read_bytes()
    status, _, err = cli(*asked)
    assert status == 0, err
    assert "Tuning" not in err
    assert Path("knobs.json").read_bytes() == before

    evaluation = ("eval", "--model", texty_folder, *NEEDLES, *METHODS, "--budget", "20")
    status, _, err = cli(*evaluation, "--knobs", "knobs.json", "--out", "tuned")
    assert status == 0, err
    chosen = json.loads(Path("tuned/run.json").read_text())["configuration"]["knobs"]["chosen"]
    assert chosen == {"needle": {method: {"20": tuning.chosen(method, 20)} for method in sorted(tuning.curves)}}
    status, _, err = cli(*evaluation, "--knobs", "papers", "--out", "papers")
    assert status == 0, err
    assert "knobs" not in json.loads(Path("papers/run.json").read_text())["configuration"]
    # The shipped choice is of another model: the published settings hold, and it is said.
    status, out, err = cli(*evaluation, "--out", "default")
    assert status == 0, err
    assert "published settings" in out
    assert Path("default/run.json").read_bytes() == Path("papers/run.json").read_bytes()


def test_the_examples_of_a_choice_are_not_evaluated_and_other_windows_are_refused(cli, texty_folder: Path) -> None:
    status, _, err = cli(
        "tune", "--model", texty_folder, *NEEDLES, "--method", "streaming-llm", "--budget", "20", "--out", "knobs.json"
    )
    assert status == 0, err
    asked = ("eval", "--model", texty_folder, *NEEDLES, "--method", "snapkv", "--budget", "20", "--knobs", "knobs.json")
    status, _, err = cli(*asked, "--split", "profile")
    assert status == 2
    assert "knobs" in err
    status, _, err = cli(*asked, "--window", "4")
    assert status == 2
    assert "window of 8 tokens" in err
    assert "--knobs papers" in err
    status, _, err = cli(*asked[:-1], "nowhere.json")
    assert status == 2
    assert "nowhere.json" in err


def test_a_knob_that_is_asked_for_comes_before_the_chosen_one(texty_folder: Path) -> None:
    from cokv_bench.policies.scorers import WindowAttention
    from cokv_bench.runs.request import Request

    chosen = {"kernel": 11, "pooling": "avg"}
    policy = Request(["needle"], ["snapkv"], [20]).policy("snapkv", None, chosen)
    assert policy.scorer == WindowAttention(11, "avg")
    policy = Request(["needle"], ["snapkv"], [20], kernel=3).policy("snapkv", None, chosen)
    assert policy.scorer == WindowAttention(3, "avg")


def test_nothing_to_tune_is_refused_and_nothing_is_written(cli, texty_folder: Path) -> None:
    asked = ("tune", "--model", texty_folder, *NEEDLES, "--out", "knobs.json")
    for options in (("--method", "full"), ("--method", "snapkv", "--budget", "5000")):
        status, _, err = cli(*asked, *options)
        assert status == 2
        assert "nothing to tune" in err
        assert not Path("knobs.json").exists()
