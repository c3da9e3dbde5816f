"""Around the work of a command: terminals of any encoding, paths of any name."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from cokv_bench.report import write_results
from cokv_bench.report.layout import lay_out
from cokv_bench.report.terminal import print_scores
from tests.report.made_run import make_run

SHOWN = """
import sys
from cokv_bench.cli import main
def show(*arguments):
    named, sys.argv = sys.argv, ["cokv-bench", *arguments]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
    sys.argv = named
"""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_of_any_encoding_shows_everything(tmp_path: Path, encoding: str) -> None:
    make_run(tmp_path / "run \u2013 \u4e2d", examples=2)
    shown = ("'inspect', sys.argv[1]", "'report', '--terminal', sys.argv[1]", "'inspect', '\u4e2d.json'")
    code = SHOWN + "".join(f"show({arguments})\n" for arguments in shown)
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run \u2013 \u4e2d")],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    out, err = result.stdout.decode(encoding), result.stderr.decode(encoding)
    assert result.returncode == 2, err
    assert err.splitlines()[-1] == "Error: Cannot read the head file ?.json: No such file or directory."
    assert re.search(r"run - \?", out)
    assert re.search(r"\d+-\d+", out)


def test_a_path_with_a_comma_is_written_in_quotes(cli, texty_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "runs, old").mkdir()
    (tmp_path / "runs, old" / "rows.jsonl").write_text('{"input": "a?", "context": "b", "answers": ["c"]}\n' * 3)
    arguments = (
        "eval",
        "--model",
        texty_folder,
        "--method",
        "full",
        "--split",
        "all",
        "--lengths",
        "600",
        "--out",
        "run",
    )
    status, _, err = cli(*arguments, "--tasks", "jsonl:runs, old/rows.jsonl")
    assert status == 2
    assert "A comma ends a task" in err
    status, _, err = cli(*arguments, "--tasks", 'jsonl:"runs, old/rows.jsonl"')
    assert status == 0, err


def test_a_home_folder_in_quotes_is_found(cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    status, _, err = cli("budgets", "--budget", "64", "--out", "~/made")
    assert status == 0, err
    assert (tmp_path / "made" / "cokv-64.budgets.json").is_file()
    status, _, err = cli("inspect", "~/made/cokv-64.budgets.json")
    assert status == 0, err
    status, _, err = cli("inspect", "~nobody-at-all/x")
    assert status == 2
    assert "write the whole path" in err


def test_markup_in_names_is_text(cli, tmp_path: Path) -> None:
    make_run(tmp_path / "[red]a[" / "b]", examples=2)
    status, out, err = cli("inspect", "[red]a[/b]")
    assert status == 0, err
    assert "[red]a[/b]" in out.replace("\n", "")


def test_bold_in_the_terminal_is_bold_in_the_files(tmp_path: Path) -> None:
    """Unequal totals and the full cache do not compete for the best score of a budget."""
    make_run(tmp_path / "run", examples=4)
    lines = [json.loads(line) for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()]
    for line in lines:
        # Among unequal totals one is better than the best of those that compete, and one as good.
        line["score"] = {"full": 1.0, "ada-snapkv": 0.75, "cokv": 0.5, "snapkv": 0.5}[line["method"]]
        line["kept_tokens"] += line["method"] in ("ada-snapkv", "snapkv")
    (tmp_path / "run" / "records.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    results = write_results(tmp_path / "run")
    console = Console(record=True, force_terminal=True, width=200, file=io.StringIO())
    print_scores(console, lay_out(*results), results.unit)
    bold = re.findall(r"\x1b\[1m(\d[\d.]*)\x1b", console.export_text(styles=True))
    # CoKV's, of two tasks at two budgets.
    assert bold == ["50.0"] * 4
    assert re.findall(r"\*\*(\d[\d.]*)\*\*", (tmp_path / "run" / "table.md").read_text()) == bold


def test_help_names_the_extra(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    _, out, _ = cli("eval", "--help")
    assert "cokv-bench[ray]" in out.replace("\n", "")


def test_a_long_refusal_is_cut_and_still_says_what_to_do() -> None:
    from cokv_bench.errors import LONGEST, RequestError

    said = str(RequestError(f"The value '{'x' * 5000}' of {'y' * 3000}\nis odd; choose another one."))
    assert len(said) <= LONGEST
    assert said.startswith("The value 'xxx")
    assert said.endswith("is odd; choose another one.")
    said = str(RequestError("many words " * 100 + "; write fewer."))
    assert len(said) == LONGEST
    assert said.endswith("; write fewer.")
