"""`cokv-bench submit` and `cokv-bench leaderboard` from outside."""

import json
from pathlib import Path

import pytest

from tests.report.made_run import make_run


def test_a_run_is_packed_and_compared(cli, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    status, out, err = cli("submit", "run")
    assert status == 0, err
    assert "submissions/run" in out
    assert {path.name for path in (tmp_path / "submissions" / "run").iterdir()} == {
        "README.md",
        "run.json",
        "records.jsonl.gz",
    }
    status, _, err = cli("submit", "run", "--name", "second", "--out", "packed")
    assert status == 0, err
    status, out, err = cli("leaderboard", "submissions/run", "packed", "--title", "Ours", "--out", "site/index.html")
    assert status == 0, err
    assert "site/index.html" in out
    assert "2 submissions, 2 groups of tables" in out
    assert "<h1>Ours</h1>" in Path("site/index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("submit", "none"), "none is not a run"),
        (("submit", "stopped"), "stopped is not finished"),
        (("submit", "run", "--name", "a b"), "no name of a submission"),
        (("submit", "run", "--out", "run"), "which is not written here"),
        (("leaderboard", "run", "stopped"), "stopped is not finished"),
        (("leaderboard", "run", "run"), "named twice"),
        (("leaderboard", "run", "--out", "run"), "is a folder"),
    ],
)
def test_what_is_refused(cli, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    make_run(tmp_path / "run")
    stopped = make_run(tmp_path / "stopped")
    lines = (stopped / "records.jsonl").read_text().splitlines(keepends=True)
    (stopped / "records.jsonl").write_text("".join(lines[:-1]))
    before = sorted(tmp_path.rglob("*"))
    status, _, err = cli(*arguments)
    assert status == 2
    assert says in " ".join(err.split())
    assert sorted(tmp_path.rglob("*")) == before


def test_a_report_of_a_submission(cli, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    assert cli("submit", "run")[0] == 0
    status, out, err = cli("report", "submissions/run", "--terminal")
    assert status == 0, err
    assert "Points over snapkv, needle" in out
    pytest.importorskip("plotly", reason="the page needs Plotly")
    status, _, err = cli("report", "submissions/run", "--out", "report.html")
    assert status == 0, err
    assert 'id="answers"' not in Path("report.html").read_text(encoding="utf-8")
    assert json.loads(Path("submissions/run/run.json").read_text())["submission"]["name"] == "run"
