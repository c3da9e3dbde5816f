"""`cokv-bench eval` as a grid: shards, published numbers, question-agnostic runs, refusals before any work."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

NEEDLES = ("--tasks", "needle", "--lengths", "500", "--depths", "4", "--method", "full,snapkv", "--budget", "16")


def test_shards_share_a_folder(cli, texty_folder: Path) -> None:
    command = ("eval", "--model", texty_folder, *NEEDLES, "--out", "run")
    status, out, err = cli(*command, "--shard", "2/2")
    assert status == 0, err
    assert "4 of 8 answers exist so far" in out
    status, out, err = cli(*command, "--shard", "1/2")
    assert status == 0, err
    assert "so far" not in out
    cli("eval", "--model", texty_folder, *NEEDLES, "--out", "whole")
    for name in ("scores.csv", "table.csv", "needle.csv", "table.md"):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()


def test_a_shard_without_prompts_has_nothing_to_do(cli, texty_folder: Path) -> None:
    status, out, err = cli("eval", "--model", texty_folder, *NEEDLES, "--out", "run", "--shard", "5/5")
    assert status == 0, err
    assert "Shard 5/5 has nothing to do: there are 4 prompts for 5 shards." in out
    assert not Path("run").exists()


def test_a_reference_without_a_score_of_the_run_is_refused_before_the_work(cli, texty_folder: Path) -> None:
    command = ("eval", "--model", texty_folder, *NEEDLES, "--out", "run")
    status, _, err = cli(*command, "--reference", "cokv")
    assert status == 2
    assert "has none of the run's scores" in err
    assert not Path("run").exists()


def test_other_settings_are_refused_with_what_differs(cli, texty_folder: Path) -> None:
    command = ("eval", "--model", texty_folder, *NEEDLES, "--out", "run")
    assert cli(*command)[0] == 0
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    status, _, err = cli(*command, "--pooling", "avg", "--seed", "5")
    assert status == 2
    assert 'pooling is "max" there and "avg" here' in err
    assert "seed is 0 there and 5 here" in err
    # A shard would have a file of records of its own.
    assert cli(*command, "--seed", "5", "--shard", "1/2")[0] == 2
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before


def test_a_submission_is_never_evaluated_into(cli, texty_folder: Path) -> None:
    command = ("eval", "--model", texty_folder, *NEEDLES)
    assert cli(*command, "--out", "run")[0] == 0
    assert cli("submit", "run", "--name", "mine", "--out", "packed")[0] == 0
    before = {path.name: path.read_bytes() for path in Path("packed").iterdir()}
    for more in ((), ("--seed", "5"), ("--shard", "1/2")):
        status, _, err = cli(*command, *more, "--out", "packed")
        assert status == 2
        assert "packed holds a submission" in err
        assert {path.name: path.read_bytes() for path in Path("packed").iterdir()} == before
    status, _, err = cli("leaderboard", "packed")
    assert status == 0, err


def test_published_numbers_stand_beside_a_run(cli, texty_folder: Path) -> None:
    Path("own.csv").write_text(
        "source,model,model_ids,mode,method,budget,task,score\n"
        "A paper,Texty,texty,question-aware,snapkv,16,needle,12.5\n"
    )
    status, out, err = cli("eval", "--model", texty_folder, *NEEDLES, "--out", "run", "--reference", "own.csv")
    assert status == 0, err
    (row,) = pd.read_csv("run/reference.csv").to_dict("records")
    score = pd.read_csv("run/scores.csv").set_index("method").loc["snapkv", "score"]
    assert row["difference"] == pytest.approx(score - 12.5)
    assert "12.50" in out


def test_question_agnostic_from_profile_to_table(cli, texty_folder: Path) -> None:
    shared = ("--model", texty_folder, "--tasks", "needle", "--lengths", "500", "--depths", "3", "--question-agnostic")
    status, _, err = cli("profile", *shared, "--samples", "24", "--out", "profile")
    assert status == 0, err
    assert json.loads(Path("profile/ledger.jsonl").read_text().splitlines()[0])["config"]["question_agnostic"]
    status, _, err = cli(
        *("eval", *shared, "--method", "full,snapkv,cokv", "--budget", "20", "--profile", "profile", "--out", "run")
    )
    assert status == 0, err
    records = [json.loads(line) for line in Path("run/records.jsonl").read_text().splitlines()]
    assert all(record["question_tokens"] > 20 for record in records)
    assert {record["kept_tokens"] for record in records if record["budget"]} == {20 * 6}
    # The ledger of a question-agnostic game is not that of the other.
    status, _, err = cli("profile", *shared[:-1], "--samples", "24", "--out", "profile")
    assert status == 2
    assert "question_agnostic" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--shard", "3/2"), "'3/2' is not a shard"),
        (("--reference", "cokvv"), "did you mean cokv"),
        (("--memory-limit", "0"), "not above 0"),
        (("--memory-limit", "0.00001"), "--max-length"),
        (("--ruler-qa", "none.json", "--tasks", "ruler/qa_1"), "none.json"),
        (("--tasks", "ruler/qa_1"), "--ruler-qa"),
        # Before a model is loaded: there is none of this name.
        (
            ("--method", "snapkv:kernl=3", "--model", "none"),
            "it takes kernel, observe, pooling, queries, sinks, window",
        ),
        (("--method", "windw+adaptive", "--model", "none"), "did you mean window"),
        (("--method", "snapkv:kernel=4", "--model", "none"), "odd"),
        (("--heads", "none.json", "--model", "none"), "Cannot read the head file none.json"),
        (("--method", "snapkv:kernel=3", "--baseline", "snapkv:kernel=5", "--model", "none"), "Unknown baseline"),
    ],
)
def test_bad_requests_are_one_sentence(cli, texty_folder: Path, options: tuple[str, ...], said: str) -> None:
    status, _, err = cli("eval", "--model", texty_folder, *NEEDLES, "--out", "run", *options)
    assert status == 2
    assert said in err
    assert "Traceback" not in err


def test_prompts_without_a_context_cannot_be_agnostic(cli, texty_folder: Path) -> None:
    Path("own.jsonl").write_text(json.dumps({"input": "Why?", "context": "It is so. " * 30, "answers": ["so"]}) + "\n")
    command = ("eval", "--model", texty_folder, "--tasks", "jsonl:own.jsonl", "--split", "all", "--budget", "16")
    status, _, err = cli(*command, "--method", "snapkv", "--template", "{input} {context}", "--question-agnostic")
    assert status == 2
    assert "no question after the context" in err
    assert not Path("results").exists()


def test_a_run_that_is_refused_at_its_first_example_leaves_nothing(cli, texty_folder: Path) -> None:
    asked = ("eval", "--model", texty_folder, "--tasks", "needle", "--lengths", "300", "--examples", "1")
    status, _, err = cli(*asked, "--budget", "24", "--method", "keydiff+lava", "--out", "run")
    assert status == 2
    assert "name another split" in err
    assert not Path("run").exists()
    assert cli(*asked, "--budget", "24", "--method", "keydiff", "--out", "run")[0] == 0
    status, _, err = cli(*asked, "--budget", "24", "--method", "keydiff+lava", "--out", "run")
    assert status == 2
    assert "other settings" in err
    assert (Path("run") / "records.jsonl").stat().st_size > 0


def test_a_run_of_several_methods_ends_with_what_it_found(cli, texty_folder: Path) -> None:
    command = ("eval", "--model", texty_folder, *NEEDLES, "--out", "run")
    assert "On needles" not in cli(*command)[1]  # One method besides the full cache: nothing is compared.
    status, out, err = cli("eval", "--config", "run/run.json", "--method", "full,snapkv,streaming-llm", "--out", "two")
    assert status == 0, err
    told = "On needles this run cannot tell methods apart: there are too few examples"
    assert told in out
    status, out, err = cli("report", "two", "--terminal")
    assert status == 0, err
    assert told in out


def test_threads_are_told_and_kept_with_the_run(cli, texty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("eval", "--model", texty_folder, *NEEDLES)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    status, _, err = cli(*command, "--out", "run")
    assert status == 0
    assert "on 1 CPU thread (OMP_NUM_THREADS is set) ..." in " ".join(err.split())
    usual = torch.get_num_threads()
    try:
        status, _, err = cli(*command, "--threads", "2", "--out", "two")
        assert status == 0
        assert "on 2 CPU threads (asked for with --threads) ..." in " ".join(err.split())
        assert json.loads(Path("two/run.json").read_text())["versions"]["threads"] == 2
        # The number is no setting of the run: with another one it is resumed.
        assert cli(*command, "--threads", "1", "--out", "two")[0] == 0
        assert cli(*command, "--threads", "100000", "--out", "two")[0] == 2
    finally:
        torch.set_num_threads(usual)
