"""`--budget 25%` on the command line: from a file of settings to tables, figures and the page; and who takes none."""

import json
from pathlib import Path

import pandas as pd
import pytest
import typer
import yaml

from cokv_bench.cli import make_app
from cokv_bench.report.figures import Lines
from cokv_bench.report.folders import read_folders
from cokv_bench.report.groups import make_groups
from cokv_bench.runs.journal import read_run

NEEDLES = ("--tasks", "needle", "--lengths", "400,600", "--depths", "2")


def test_both_kinds_from_a_file_of_settings_to_a_report(cli, texty_folder: Path) -> None:
    asked = {
        "model": str(texty_folder),
        "tasks": "needle",
        "lengths": "400,600",
        "depths": 2,
        "method": "full,h2o,snapkv",
    }
    Path("e.yaml").write_text(yaml.safe_dump({**asked, "budget": [48, "25%", "12.5 %"], "out": "run"}))
    status, out, err = cli("eval", "--config", "e.yaml", "--dry-run")
    assert status == 0, err
    assert "28" in out  # 4 needles x (full + 2 methods x 3 budgets)
    status, out, err = cli("eval", "--config", "e.yaml")
    assert status == 0, err
    assert "12.5%" in out
    assert read_run(Path("run"))["configuration"]["budgets"] == [48, "12.5%", "25%"]
    assert json.loads(Path("run/run.json").read_text())["request"]["budget"] == "48,25%,12.5 %"
    # Again by its run: the same run, nothing is evaluated.
    before = Path("run/records.jsonl").read_bytes()
    status, _, err = cli("eval", "--config", "run/run.json", "--out", "run")
    assert (status, Path("run/records.jsonl").read_bytes()) == (0, before), err
    tables = {path.name: path.read_bytes() for path in Path("run").iterdir() if path.suffix in (".csv", ".md", ".tex")}
    assert list(pd.read_csv("run/table.csv", dtype=str)["budget"].dropna().unique()) == ["48", "12.5%", "25%"]
    assert "| 12.5% |" in tables["table.md"].decode()
    assert "12.5\\%" in tables["table.tex"].decode()
    status, out, err = cli("report", "run", "--recount", "--terminal")
    assert status == 0, err
    assert tables == {name: Path("run", name).read_bytes() for name in tables}
    assert "25%" in out
    status, _, err = cli("report", "run")
    assert status == 0, err
    assert '["snapkv","12.5%"]' in Path("run/report.html").read_text()


def test_a_published_share_stands_beside_the_same_share(cli, texty_folder: Path) -> None:
    Path("own.csv").write_text(
        "source,model,model_ids,mode,method,budget,task,score\n"
        "A paper,Texty,texty,question-aware,snapkv,25%,needle,12.5\n"
        "A paper,Texty,texty,question-aware,snapkv,64,needle,1.5\n"
    )
    command = ("eval", "--model", texty_folder, *NEEDLES, "--method", "full,snapkv", "--reference", "own.csv")
    status, out, err = cli(*command, "--budget", "25%", "--out", "run")
    assert status == 0, err
    table = pd.read_csv("run/reference.csv")
    assert (list(table["budget"]), list(table["published"])) == (["25%"], [12.5])
    assert "25%" in out
    Path("own.csv").write_text(Path("own.csv").read_text().replace("25%", "125%"))
    status, _, err = cli(*command, "--budget", "25%", "--out", "again")
    assert status == 2
    assert "own.csv line 2: budget '125%'" in err


def test_gaps_have_an_axis_for_each_kind(cli, texty_folder: Path) -> None:
    command = ("eval", "--model", texty_folder, *NEEDLES, "--method", "full,snapkv,h2o", "--utility", "loglik")
    status, out, err = cli(*command, "--budget", "48,64,12.5%,25%", "--out", "run")
    assert status == 0, err
    assert "12.5%" in out
    # Random weights lose nothing, so no share of a gap is known and there is nothing to draw.
    assert not Path("run/gaps.png").exists()
    assert list(pd.read_csv("run/gaps.csv")["budget"].unique()) == ["48", "64", "12.5%", "25%"]
    runs, _ = read_folders([Path("run")])
    groups = {group.key: group for group in make_groups(runs, [])}
    for key in ("loglik-curves", "loglik-gaps"):
        tokens, shares = groups[key].figures
        assert isinstance(tokens, Lines)
        assert isinstance(shares, Lines)
        assert (tokens.x_label, tokens.ticks) == ("budget (tokens per KV head)", [48, 64])
        assert (shares.x_label, shares.ticks) == ("budget (share of the prompt)", [12.5, 25])
        assert list(map(shares.told, shares.ticks)) == ["12.5%", "25%"]
        assert tokens.title != shares.title
        # The full cache is a level in both.
        assert all(any(series.name == "full" for series in figure.series) for figure in (tokens, shares))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--budget", "0%"), "above 0% and at most 100%, not 0%"),
        (("--budget", "64,120%"), "not 120%"),
        (("--budget", "a%"), "'a%' is not a budget"),
        (("--budget", "1%"), "tokens: A budget of 4 tokens leaves nothing beyond the observation window of 8"),
    ],
)
def test_bad_shares_are_one_sentence(cli, texty_folder: Path, options: tuple[str, ...], said: str) -> None:
    status, _, err = cli("eval", "--model", texty_folder, *NEEDLES, "--method", "full,snapkv", "--out", "run", *options)
    assert status == 2
    assert said in " ".join(err.split())
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            "tune --model none --budget 64,25%",
            "`cokv-bench tune` takes budgets in tokens per head, not 25% of the prompt.",
        ),
        ("search --model none --budget 25%", "'25%' is not a list of whole numbers for budget"),
        ("budgets --budget 25%", "'25%' is not a list of whole numbers for budget"),
    ],
)
def test_what_is_made_for_any_prompt_takes_tokens_alone(cli, command: str, said: str) -> None:
    status, _, err = cli(*command.split())
    assert status == 2
    assert said in " ".join(err.split())


def test_the_help_names_shares_where_they_are_taken() -> None:
    """Commands share the options of a request, and not all take all of it."""
    commands = typer.main.get_command(make_app()).commands  # type: ignore[attr-defined]
    told = {
        name: option.help
        for name, command in commands.items()
        for option in command.params
        if "--budget" in option.opts
    }
    assert {"bench", "eval", "search", "tune"} <= set(told)
    assert {name for name, text in told.items() if "25%" in text} == {"bench", "eval"}


def test_the_help_of_tune_says_what_its_window_does() -> None:
    (window,) = [each for each in typer.main.get_command(make_app()).commands["tune"].params if each.name == "window"]  # type: ignore[attr-defined]
    assert "Try this observation window alone" in window.help
