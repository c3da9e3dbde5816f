"""Requests as options: groups of options are dataclasses, which files of settings fill as well."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pytest
import typer
import yaml

from cokv_bench.cli import make_app
from cokv_bench.cli.groups import Only, grouped
from cokv_bench.errors import RequestError
from cokv_bench.option import Option, gibibytes
from cokv_bench.runs.journal import read_run

NEEDLES = ("--tasks", "needle", "--lengths", "400", "--depths", "2")


@dataclass(frozen=True)
class Wanted:
    names: Annotated[tuple[str, ...], Option("Names.", name="name")] = ("a",)
    counts: Annotated[tuple[int, ...], Option("Counts.")] = ()
    files: Annotated[tuple[Path, ...], Option("Files.")] = ()
    memory: Annotated[int | None, Option("GiB.", read=gibibytes, written=float)] = None
    often: Annotated[int, Option("Times.", least=1, earlier="times")] = 2
    share: Annotated[float, Option("Share.")] = 0.5
    loud: Annotated[bool, Option("Loud.")] = False
    hidden: str = "kept"


def called(*arguments: str, default: Wanted | None = None, only: tuple[str, ...] | None = None) -> dict[str, Any]:
    """What a command with the group gets from a command line."""
    got: dict[str, Any] = {}
    kind: Any = Wanted if only is None else Annotated[Wanted, Only(*only)]

    def command(wanted: Any, further: int = 3) -> None:
        got.update(wanted=wanted, further=further)

    command.__annotations__["wanted"] = kind
    if default is not None:
        command.__defaults__ = (default, 3)
    app = typer.Typer()
    app.command()(grouped(command))
    app(list(arguments), standalone_mode=False)
    return got


def test_a_group_is_spread_into_options_and_gathered_again() -> None:
    assert called() == {"wanted": Wanted(), "further": 3}
    found = called(
        *("--name", 'b,"c,d"', "--counts", "64,128", "--files", "x", "--files", "y", "--memory", "0.5", "--often", "5"),
        *("--loud", "--further", "4"),
    )
    wanted = Wanted(("b", "c,d"), (64, 128), (Path("x"), Path("y")), 2**29, 5, loud=True)
    assert found == {"wanted": wanted, "further": 4}


def test_an_earlier_name_of_an_option_is_read(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("times: 5")
    assert called("--times", "5") == called("--often", "5") == called("--config", str(tmp_path / "c.yaml"))


def test_options_of_two_rules_have_two_names() -> None:
    """alpha is CoKV's; HeadKV's beta is not PyramidKV's, so the option names its method."""
    options = {opt for each in typer.main.get_command(make_app()).commands["eval"].params for opt in each.opts}  # type: ignore[attr-defined]
    assert {"--alpha", "--zeroed", "--headkv-beta", "--beta"} <= options


def test_an_instance_has_the_defaults_of_a_command() -> None:
    default = Wanted(("z",), (7,), hidden="mine")
    assert called("--often", "9", default=default)["wanted"] == Wanted(("z",), (7,), often=9, hidden="mine")


def test_a_command_may_have_words_of_its_own_for_a_field() -> None:
    def command(wanted: Any) -> None: ...

    command.__annotations__["wanted"] = Annotated[Wanted, Only("often", "share", help={"often": "At most twice."})]
    app = typer.Typer()
    app.command()(grouped(command))
    told = {each.name: each.help for each in typer.main.get_command(app).params}
    assert (told["often"], told["share"]) == ("At most twice.", "Share.")


def test_a_command_may_leave_fields_out() -> None:
    assert called("--often", "9", only=("often",))["wanted"] == Wanted(often=9)
    with pytest.raises(Exception, match="--loud"):
        called("--loud", only=("often",))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("name: [b, 'c,d']\nfiles: x\nmemory: 0.5", Wanted(("b", "c,d"), files=(Path("x"),), memory=2**29)),
        ("counts: 64\nloud: true", Wanted(counts=(64,), loud=True)),
        ("counts: 64,128\noften: 3", Wanted(counts=(64, 128), often=3)),
        ("files: [x, y]\nloud: false\noften: null", Wanted(files=(Path("x"), Path("y")))),
        ("counts: [64, 128]\nfurther: 8", Wanted(counts=(64, 128))),
    ],
)
def test_a_file_fills_it(tmp_path: Path, text: str, wanted: Wanted) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert called("--config", str(tmp_path / "c.yaml"))["wanted"] == wanted


def test_the_command_line_comes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("often: 3\ncounts: [1, 2]")
    found = called("--often", "4", "--config", str(tmp_path / "c.yaml"), "--further", "5")
    assert found == {"wanted": Wanted(counts=(1, 2), often=4), "further": 5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("budgte: 64", "did you mean budget"),
        ("budget: {a: 1}", "expected a text, a number or a list"),
        ("examples: many", "examples"),
        ("examples: 0", "examples"),
        ("question-agnostic: 3", "expected true or false"),
        ("just text", "keys and values"),
        ("[1, 2]", "keys and values"),
        ("a: [", "not valid YAML"),
        ("{1: 2}", "keys and values"),
        ("config: c.yaml", "Unknown option"),
        ("max-length: 300\nmax_length: 400", "is given twice"),
    ],
)
def test_what_a_file_cannot_say(cli, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    status, _, err = cli("eval", "--config", "c.yaml")
    assert status == 2
    assert said in " ".join(err.split())
    assert "c.yaml" in err
    assert len(" ".join(err.split())) < 420


@pytest.mark.parametrize(
    ("option", "number"),
    [("--further", "9" * 30), ("--often", str(2**53)), ("--share", "inf"), ("--share", "nan"), ("--share", "-1e300")],
)
def test_numbers_that_no_file_can_hold_are_refused(option: str, number: str) -> None:
    with pytest.raises(RequestError, match=f"{option} is .*; it must be a finite number below 2"):
        called(option, number)


def test_a_file_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.yaml").write_text("often: 3")
    assert called("--config", "~/c.yaml")["wanted"] == Wanted(often=3)


def test_a_missing_file(cli) -> None:
    status, _, err = cli("profile", "--config", "none.yaml")
    assert (status, "cannot be read" in err) == (2, True)


def test_an_evaluation_is_asked_for_by_a_file_and_again_by_its_run(cli, texty_folder: Path) -> None:
    content = {"model": str(texty_folder), "tasks": "needle", "lengths": 400, "depths": 2, "budget": [24, 48]}
    Path("e.yaml").write_text(yaml.safe_dump({**content, "method": ["full", "snapkv"], "out": "first"}))
    status, _, err = cli("eval", "--config", "e.yaml")
    assert status == 0, err
    asked = json.loads(Path("first/run.json").read_text())["request"]
    assert (asked["method"], asked["budget"], asked["lengths"]) == ("full,snapkv", "24,48", "400")
    status, _, err = cli("eval", "--config", "first/run.json", "--out", "second")
    assert status == 0, err
    assert read_run(Path("second"))["configuration"] == read_run(Path("first"))["configuration"]
    assert pd.read_csv("second/table.csv").equals(pd.read_csv("first/table.csv"))
    # The same settings in another place, and one of them changed.
    status, _, err = cli("eval", "--config", "first/run.json", "--budget", "24", "--out", "third")
    assert status == 0, err
    assert read_run(Path("third"))["configuration"]["budgets"] == [24]


def test_a_run_of_an_earlier_version_does_not_say_what_was_asked_for(cli) -> None:
    Path("run.json").write_text(json.dumps({"configuration": {}, "versions": {}}))
    status, _, err = cli("eval", "--config", "run.json")
    assert status == 2
    assert "earlier version" in err


def test_commands_share_their_options() -> None:
    commands = typer.main.get_command(make_app()).commands  # type: ignore[attr-defined]
    for option in ("--tasks", "--lengths", "--max-length", "--data-dir", "--dtype"):
        told = {
            parameter.help
            for name in ("eval", "profile", "search", "tune")
            for parameter in commands[name].params
            if option in parameter.opts
        }
        assert len(told) == 1
