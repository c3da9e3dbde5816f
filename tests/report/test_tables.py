"""The tables that a report has are those of the run's records, whether they are read or counted again."""

from pathlib import Path

import pandas as pd
import pytest

from cokv_bench.report import write_results
from cokv_bench.report.folders import Run, read_folders
from cokv_bench.report.layout import lay_out
from cokv_bench.report.markdown import markdown
from cokv_bench.scores.tables import count_tables
from tests.report.made_run import make_run
from tests.report.test_logprobs import make_logprobs

ROOT = Path(__file__).resolve().parents[2]


def read(folder: Path) -> Run:
    (run,), _ = read_folders([folder])
    return run


def make(folder: Path, kind: str) -> Path:
    return make_logprobs(folder) if kind == "utility" else make_run(folder, asked=3 if kind == "questions" else 1)


@pytest.mark.parametrize("kind", ["lengths", "questions", "utility"])
def test_stored_tables_are_all_that_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    folder = make(tmp_path / "run", kind)
    write_results(folder)
    missing = read(folder)
    wanted = count_tables(missing.records, missing.configuration)
    assert {"lengths": "lengths.csv", "questions": "questions.csv", "utility": "gaps.csv"}[kind] in wanted
    # Nothing is counted that takes long.
    monkeypatch.setattr("cokv_bench.report.tables.count_tables", None)
    found = read(folder).tables
    assert set(found) == set(wanted)
    for name, table in wanted.items():
        pd.testing.assert_frame_equal(found[name][list(table.columns)], table, check_dtype=False, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["questions.csv", "lengths.csv"])
def test_a_table_that_is_missing_damaged_or_of_other_records_is_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = make_run(tmp_path / "run", asked=3)
    write_results(folder)
    monkeypatch.setattr("cokv_bench.report.tables.count_tables", None)
    stored = pd.read_csv(folder / name)
    wanted = read(folder).tables[name]
    for damaged in (stored.assign(n=stored["n"] - 1), stored.drop(columns="n"), stored.assign(task="x"), None):
        if damaged is None:
            (folder / name).unlink()
        else:
            damaged.to_csv(folder / name, index=False)
        pd.testing.assert_frame_equal(read(folder).tables[name], wanted, check_dtype=False, rtol=1e-3, atol=1e-3)


def test_what_is_read_is_laid_out_as_it_was_written(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", asked=3)
    write_results(folder)
    run = read(folder)
    assert markdown(lay_out(run.tables, run.configuration, run.unit)) == (folder / "table.md").read_text()


@pytest.mark.skipif(not (ROOT / "results").is_dir(), reason="the results are not in the distribution")
def test_the_later_questions_of_a_committed_run_are_shown() -> None:
    run = read(ROOT / "results/rankings/questions")
    assert "of the later ones asked from the same cache" in markdown(lay_out(run.tables, run.configuration, run.unit))


def test_comparisons_of_means_that_a_method_does_not_have_are_counted_again(tmp_path: Path) -> None:
    """Earlier versions took the mean of a method that lacks a task over the others."""
    folder = make_run(tmp_path / "run")
    write_results(folder)
    path = folder / "comparisons.csv"
    stored = pd.read_csv(path)
    pd.concat([stored, stored.tail(1).assign(task="mean")]).to_csv(path, index=False)
    assert "mean" not in set(read(folder).tables["comparisons.csv"]["task"])
