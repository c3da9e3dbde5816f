"""`cokv-bench report` from outside."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cokv_bench.budgets import embedded
from tests.report.made_run import make_run
from tests.report.test_estimators import make_ledger
from tests.report.test_logprobs import make_logprobs

RESULTS = Path(__file__).resolve().parents[2] / "results"


def test_a_report_goes_into_the_runs_folder(cli, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    before = {path.name for path in run.iterdir()}
    status, out, err = cli("report", "run")
    assert status == 0, err
    assert "run/report.html" in out
    assert {path.name for path in run.iterdir()} == before | {"report.html"}


def test_a_report_of_everything(cli, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    status, _, err = cli(
        *("report", "run", RESULTS / "gpu" / "decode", "--out", "all.html", "--budget", "64"),
        *("--heads", f"searched={embedded.shares_path()}"),
        *("--estimators", RESULTS / "smollm2-135m" / "estimators.json"),
    )
    assert status == 0, err
    page = Path("all.html").read_text(encoding="utf-8")
    assert "cokv to searched" in page
    assert "Memory, decode" in page
    assert "Rank correlation of the ledger" in page


def test_figures_are_files_too(cli, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="figures as files need matplotlib")
    status, _, err = cli("report", RESULTS / "gpu" / "batch", "--terminal", "--figures", "figures")
    assert status == 0, err
    assert len(list(Path("figures").iterdir())) == 2 * 3


def test_a_report_in_the_terminal(cli, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    status, out, err = cli("report", "run", "--terminal")
    assert status == 0, err
    for words in ("Points over snapkv, needle", "Needles found at budget 64", "Tokens per head at budget 128"):
        assert words in out
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_recount_keeps_the_baselines_that_were_asked_for(cli, tmp_path: Path) -> None:
    """Where comparisons.csv was left out, for it is made again: with SnapKV alone, tables of tests would be lost."""
    path = make_run(tmp_path / "run") / "run.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps({**described, "request": {"baseline": "ada-snapkv,snapkv"}}))
    status, out, err = cli("report", "run", "--terminal")
    assert status == 0, err
    assert "Points over ada-snapkv, needle" in out
    status, out, err = cli("report", "run", "--recount", "--terminal")
    assert status == 0, err
    assert "Recomputed the tables of run, compared with ada-snapkv, snapkv\n" in out
    assert Path("run/table.md").read_text().count("Primary tests") == 2
    # What the comparisons name comes before what was once asked for.
    stored = Path("run/comparisons.csv")
    stored.write_text("baseline\ncokv\n")
    status, out, err = cli("report", "run", "--recount", "--terminal")
    assert "tables of run, compared with cokv\n" in out, err


def test_a_recount_says_where_nothing_names_a_baseline(cli, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    status, out, err = cli("report", "run", "--recount", "--terminal")
    assert status == 0, err
    assert "Recomputed the tables of run, compared with snapkv (its files name no baseline)" in out


def test_log_probabilities_in_the_terminal(cli, tmp_path: Path) -> None:
    make_logprobs(tmp_path / "evidence")
    status, out, err = cli("report", "evidence", "--terminal")
    assert status == 0, err
    assert "Log-probability of reference answers in nats per token" in " ".join(out.split())
    assert "Nats per token over snapkv, needle" in out
    assert "Share closed: gain over gap" in out
    assert "percent" not in out


def test_a_profile_among_the_estimators(cli, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    make_ledger(tmp_path / "profile", 40)
    status, out, err = cli("report", "run", "--estimators", "profile", "--terminal")
    assert status == 0, err
    assert "Rank correlation of the ledger's halves, profile" in out


@pytest.mark.parametrize("folder", ["smollm2-135m", "search/ruler-shipped"])
def test_tables_are_shown_without_the_heavy_libraries(tmp_path: Path, folder: str) -> None:
    """Their imports would take longer than the report."""
    pytest.importorskip("plotly", reason="the page needs Plotly")
    out = tmp_path / "report.html"
    code = (
        "import sys; from cokv_bench.cli import make_app; "
        f"make_app()(['report', {str(RESULTS / folder)!r}, '--out', {str(out)!r}], standalone_mode=False); "
        "print({'torch', 'transformers', 'scipy', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.endswith("set()\n"), done.stdout
    assert out.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("none",), "none is not a run"),
        (("run", "--terminal", "--out", "x.html"), "--terminal writes no page"),
        (("run", "--out", "."), ". is a folder"),
        (("run", "run"), "named twice"),
        (("run", "--heads", "x"), "NAME=FILE"),
        (("run", "--heads", "x=none.json"), "none.json"),
        (("run", *2 * ("--heads", f"x={embedded.shares_path()}")), "same name"),
        (("run", "--estimators", "none.json"), "none.json"),
        (("run", "--estimators", "run"), "ledger.jsonl"),
        (("run", "--budget", "8"), "above the window"),
        (("empty",), "no records"),
        (("logprobs",), "no answers"),
    ],
)
def test_what_cannot_be_reported(cli, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    run = make_run(tmp_path / "run")
    for name, records in (("empty", ""), ("logprobs", "")):
        shutil.copytree(run, tmp_path / name)
        (tmp_path / name / "records.jsonl").write_text(records)
    counts = dict.fromkeys(("prompt_tokens", "kept_tokens", "kv_bytes", "new_tokens"), 1)
    columns = {"length": 1024, "depth": 50.0, "word_recall": 1.0}
    record = {"task": "needle", "example": "e", "method": "full", "budget": None, "score": 0.5, **columns, **counts}
    (tmp_path / "logprobs" / "records.jsonl").write_text(json.dumps(record) + "\n")
    status, _, err = cli("report", *arguments)
    assert status == 2
    assert says in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("package", "arguments"), [("plotly", ()), ("matplotlib", ("--terminal", "--figures", "figures"))]
)
def test_what_draws_is_not_installed(
    cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, arguments: tuple[str, ...]
) -> None:
    make_run(tmp_path / "run")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else found(name, *rest)
    )
    status, _, err = cli("report", "run", *arguments)
    assert status == 2
    assert "pip install" in err
    assert package in err.lower()


def test_the_summaries_of_several_runs_stand_under_their_names(cli) -> None:
    for name in ("one", "two"):
        make_run(Path(name))
    status, out, err = cli("report", "one", "two")
    assert status == 0, err
    lines = [line for line in out.splitlines() if line in ("one", "two") or line.startswith("At 64 tokens per head")]
    assert [line for line in lines if line in ("one", "two")] == ["one", "two"]
    assert lines[0] == "one"
    assert "ada-snapkv finds 12 of 12 needles, snapkv 8 and the full cache 12" in lines[1]


def test_runs_of_different_tasks_share_a_report(cli) -> None:
    for name, task in (("one", "needle"), ("two", "jsonl:<b>own</b>.jsonl")):
        run = make_run(Path(name), questions=False)
        described = json.loads((run / "run.json").read_text())
        tasks = described["configuration"]["tasks"]
        described["configuration"]["tasks"] = {task: tasks[task]}
        (run / "run.json").write_text(json.dumps(described))
        records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
        (run / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records if r["task"] == task))
    status, out, err = cli("report", "one", "two", "--out", "report.html")
    assert status == 0, err
    assert "Wrote report.html" in out


def test_an_unfinished_run_says_so(cli, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    records = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    says = f"it has {len(records) - 20} of {len(records)} records. Repeat the command that made it"
    commands = [("inspect", folder), ("report", folder, "--terminal"), ("report", folder)]
    for command in commands:
        assert says not in cli(*command)[1]
    (folder / "records.jsonl").write_text("".join(records[:-20]))
    for command in commands:
        status, out, err = cli(*command)
        assert status == 0, err
        assert says in " ".join(out.split())
    assert says in (folder / "report.html").read_text()
