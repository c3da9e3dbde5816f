"""Folders of log-probabilities: curves, differences and gaps in nats per token, apart from all scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cokv_bench.errors import RequestError
from cokv_bench.report.figures import Dots, Group, Lines
from cokv_bench.report.folders import Run, read_folders
from cokv_bench.report.groups import make_groups
from cokv_bench.report.html import write_page
from cokv_bench.report.layout import lay_out
from cokv_bench.runs.journal import read_records
from cokv_bench.scores.comparisons import comparisons_table
from cokv_bench.scores.gaps import gaps_table
from cokv_bench.scores.units import PERCENT
from tests.report.made_run import make_run

UNIVERSAL = Path(__file__).resolve().parents[2] / "results" / "search" / "universal"


def make_logprobs(folder: Path, *, utility: str = "loglik", tables: bool = False) -> Path:
    """The made run with log-probabilities instead of answers: -0.5 for what was right, -3.5 for what was wrong.

    The second task has no gap: SnapKV is as likely as the full cache.
    """
    make_run(folder, questions=False)
    description = json.loads((folder / "run.json").read_text())
    description["configuration"]["utility"] = utility
    (folder / "run.json").write_text(json.dumps(description))
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    for record in records:
        del record["prediction"]
        right = record["score"] or (record["task"] != "needle" and record["method"] == "snapkv")
        record |= {"score": -0.5 if right else -3.5, "unit": "nats per token"}
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if tables:
        frame = pd.DataFrame(records).astype({"budget": "Int64"})
        scores = frame.groupby(["method", "budget", "task"], dropna=False, sort=False).agg(
            n=("score", "size"), logprob=("score", "mean")
        )
        known = {"ci_low": -4.0, "ci_high": -0.25, "kept_per_head": 64.0, "exact_total": True}
        scores.reset_index().assign(**known).to_csv(folder / "logprobs.csv", index=False)
        first, second = (comparisons_table(frame, description["configuration"], each) for each in ("cokv", "snapkv"))
        pd.concat([first.assign(within_noise=False), second.assign(within_noise=True)]).to_csv(
            folder / "comparisons.csv", index=False
        )
        gaps_table(frame).assign(gap_ci_high=9.0).to_csv(folder / "gaps.csv", index=False)
    return folder


def read(folder: Path) -> Run:
    (run,), _ = read_folders([folder])
    return run


def group(groups: list[Group], key: str) -> Group:
    (found,) = [each for each in groups if each.key == key]
    return found


def test_counted_from_the_records(tmp_path: Path) -> None:
    run = read(make_logprobs(tmp_path / "run"))
    assert run.unit.axis == "log-probability (nats per token)"
    groups = make_groups([run], [])
    assert [each.key for each in groups] == ["loglik-curves", "loglik-gaps", "loglik-differences", "heads"]
    curve = group(groups, "loglik-curves").figures[0]
    assert isinstance(curve, Lines)
    assert curve.y_label == "log-probability (nats per token)"
    by_name = {series.name: series for series in curve.series}
    assert by_name["full"].y == pytest.approx((-0.5,))
    assert by_name["snapkv"].y == pytest.approx((-1.5, -1.5))
    assert by_name["cokv"].y == pytest.approx((-1.25, -1.25))
    forest = group(groups, "loglik-differences").figures[0]
    assert isinstance(forest, Dots)
    assert forest.x_label == "nats per token over snapkv"
    assert {dot.label: dot.value for dot in forest.dots}["cokv 64"] == pytest.approx(0.25)


def test_the_share_of_the_gap_is_that_of_the_means(tmp_path: Path) -> None:
    figures = group(make_groups([read(make_logprobs(tmp_path / "run"))], []), "loglik-gaps").figures
    shares: dict[str, dict[str, Any]] = {}
    for figure in figures:
        assert isinstance(figure, Lines)
        shares[figure.title.removeprefix("Share closed: ")] = {series.name: series.y for series in figure.series}
    own = "jsonl:<b>own</b>.jsonl"
    assert list(shares) == [
        *("gain over gap", "gain over gap, needle", "gain over gap, jsonl", "mean of tasks with a gap"),
        *("needle", own),
    ]
    assert shares["needle"]["cokv"] == pytest.approx((0.25, 0.25))
    assert (shares["needle"]["full"], shares["needle"]["snapkv"]) == ((1.0,), (0.0,))
    (needle,) = [figure for figure in figures if figure.title == "Share closed: needle"]
    assert isinstance(needle, Lines)
    (cokv,) = [series for series in needle.series if series.name == "cokv"]
    for points in zip(cokv.low, cokv.y, cokv.high, strict=True):
        assert None not in points
        assert sorted(set(points)) == list(points)
    # Nothing to close: no share.
    assert shares[own]["cokv"] == (None, None)
    assert shares["mean of tasks with a gap"]["cokv"] == pytest.approx((0.25, 0.25))
    assert "64: 1.000 (0.0615 to 1.939), 128" in figures[4].about


def test_tables_of_the_folder_are_read(tmp_path: Path) -> None:
    run = read(make_logprobs(tmp_path / "run", tables=True))
    assert (run.tables["gaps.csv"].query("task == 'needle'")["gap_ci_high"] == 9).all()
    forests = group(make_groups([run], []), "loglik-differences").figures
    assert [forest.title for forest in forests[::2]] == [f"needle, nats per token over {n}" for n in ("cokv", "snapkv")]
    layout = lay_out(run.tables, run.configuration, run.unit)
    assert layout.scores.caption == "Log-probability of reference answers in nats per token"
    assert [cell.text for cell in layout.scores.sections[1][0]] == ["snapkv", "64", "-1.500", "-0.500"]
    # The marks are those of the first baseline; the size of the cache is not in these tables.
    named = "cokv, or from the baseline that a table of tests names"
    assert layout.differs == f"differs from {named} (paired test, corrected p < 0.05)"
    assert [grid.caption.partition(";")[0] for grid in layout.primary] == [
        f"Primary tests: nats per token over {each}, mean over the budgets" for each in ("cokv", "snapkv")
    ]
    assert layout.costs[0].header == ("method", "budget", "needle", "95% interval", "tokens per head")
    assert [cell.text for cell in layout.costs[0].sections[1][0]][3:] == ["-4.000 to -0.250", "64.0"]
    # Of other records they are not used.
    with (tmp_path / "run" / "records.jsonl").open("a") as file:
        file.write(json.dumps({**run.records[0], "example": "another"}) + "\n")
    assert (read(tmp_path / "run").tables["gaps.csv"].query("task == 'needle'")["gap_ci_high"] < 9).all()


def test_tables_without_intervals_are_counted_again(tmp_path: Path) -> None:
    path = make_logprobs(tmp_path / "run", tables=True) / "gaps.csv"
    pd.read_csv(path).drop(columns=["closed_ci_low", "closed_ci_high"]).to_csv(path, index=False)
    run = read(tmp_path / "run")
    assert (run.tables["gaps.csv"].query("task == 'needle'")["gap_ci_high"] < 9).all()
    assert group(make_groups([run], []), "loglik-gaps").figures


def test_comparisons_of_earlier_versions_are_counted_again_with_their_baselines(tmp_path: Path) -> None:
    path = make_logprobs(tmp_path / "run", tables=True) / "comparisons.csv"
    pd.read_csv(path).drop(columns=["family", "p_adjusted", "discriminates"]).to_csv(path, index=False)
    compared = read(tmp_path / "run").tables["comparisons.csv"]
    assert compared["baseline"].unique().tolist() == ["cokv", "snapkv"]
    assert set(compared["family"]) == {"primary", "budget"}


def test_scores_and_log_probabilities_share_no_figure_and_no_table(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / "eval"), make_logprobs(tmp_path / "a"), make_logprobs(tmp_path / "b")]
    own = make_logprobs(tmp_path / "own", utility="agreement")
    runs, _ = read_folders([*folders, own])
    groups = make_groups(runs, [])
    axes = {each.key: {f.y_label for f in each.figures if isinstance(f, Lines)} for each in groups}
    assert axes["curves"] == {"score (%)"}
    assert axes["loglik-curves"] == axes["agreement-curves"] == {"log-probability (nats per token)"}
    names = {key: len(group(groups, key).figures[0].table.rows) for key in ("loglik-curves", "agreement-curves")}
    assert names["loglik-curves"] == 2 * names["agreement-curves"]
    assert len({each.title for each in groups}) == len(groups)
    write_page(tmp_path / "all.html", runs, [], groups)
    page = (tmp_path / "all.html").read_text()
    for heading in ("Scores, eval", "Log-probabilities, a", "Log-probabilities, own", "168 log-probabilities of the"):
        assert heading in page
    write_page(tmp_path / "one.html", runs[1:2], [], make_groups(runs[1:2], []))
    page = (tmp_path / "one.html").read_text()
    assert 'id="answers"' not in page
    assert "Predictions" not in page.partition("<script")[0]


def test_records_of_earlier_versions_hold_hundredths(tmp_path: Path) -> None:
    """Without a unit a log-probability is a hundredth of itself; a run that was resumed has records of both kinds."""
    folder = make_logprobs(tmp_path / "run")
    new, path = read(folder), folder / "records.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[::2]:
        line["score"] /= 100
        del line["unit"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    old = read(folder)
    assert {record["unit"] for record in old.records} == {"nats per token"}
    assert [r["score"] for r in old.records] == pytest.approx([r["score"] for r in new.records])
    for name, table in new.tables.items():
        pd.testing.assert_frame_equal(old.tables[name], table)


@pytest.mark.parametrize("utility", ["loglik", None])
def test_a_run_has_one_unit(tmp_path: Path, utility: str | None) -> None:
    folder = make_logprobs(tmp_path / "run", utility=utility)  # type: ignore[arg-type]
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    lines[0] = json.dumps({**json.loads(lines[0]), "unit": "fraction", "score": 0.5}) + "\n"
    (folder / "records.jsonl").write_text("".join(lines))
    with pytest.raises(RequestError, match="records in 'fraction' and in 'nats per token'; a run has one unit"):
        read_folders([folder])


def test_utilities_that_are_no_log_probability_have_their_own_unit(tmp_path: Path) -> None:
    folder = make_logprobs(tmp_path / "run", utility="li<k>eness")
    path = folder / "records.jsonl"
    path.write_text(path.read_text().replace("nats per token", "letters"))
    run = read(folder)
    assert (run.unit.caption, run.unit.gain, run.unit.file) == ("Li<k>eness (letters)", "letters", "values.csv")
    groups = make_groups([run], [])
    # Names of figures are names of files and of places in the page.
    assert [each.key for each in groups][:3] == ["li-k-eness-curves", "li-k-eness-gaps", "li-k-eness-differences"]
    write_page(tmp_path / "one.html", [run], [], groups)
    assert "<k>" not in (tmp_path / "one.html").read_text()


def test_unknown_methods_have_styles_of_their_own(tmp_path: Path) -> None:
    folder = make_logprobs(tmp_path / "run")
    for name in ("run.json", "records.jsonl"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace('"ada-snapkv"', '"mine"').replace('"cokv"', '"mine too"'))
    curve = group(make_groups([read(folder)], []), "loglik-curves").figures[0]
    assert isinstance(curve, Lines)
    lines = [series for series in curve.series if not series.reference]
    assert len({series.style for series in lines}) == len(lines) == 3


def test_the_shipped_evidence() -> None:
    run = read(UNIVERSAL)
    assert run.unit is not PERCENT
    scores = run.tables["scores.csv"].set_index(["task", "method", "budget"])["score"]
    full = run.tables["scores.csv"].query("method == 'full'").set_index("task")["score"]
    figure = next(
        f for f in group(make_groups([run], []), "loglik-gaps").figures if f.title == "Share closed: ruler/vt"
    )
    assert isinstance(figure, Lines)
    line = next(series for series in figure.series if series.name == "cokv-search")
    gaps = run.tables["gaps.csv"].query("task == 'ruler/vt'").groupby("budget")["gap_ci_low"].first()
    for budget, share in zip(line.x, line.y, strict=True):
        assert (share is None) == (not gaps[budget] > 0)
        if share is None:
            continue
        snap, found = (scores["ruler/vt", method, budget] for method in ("snapkv", "cokv-search"))
        assert share == pytest.approx((found - snap) / (full["ruler/vt"] - snap))
    np.testing.assert_allclose(
        run.tables["table.csv"].set_index(["method", "budget"]).loc[("cokv", 64), "needle"],
        scores["needle", "cokv", 64],
    )


def test_a_utility_in_fractions_needs_no_columns_of_scores(tmp_path: Path) -> None:
    folder = make_logprobs(tmp_path / "run", utility="metric")
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    lines = [{**{k: v for k, v in line.items() if k != "word_recall"}, "unit": "fraction"} for line in lines]
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(read_records(folder)) == len(lines)
    description = json.loads((folder / "run.json").read_text())
    del description["configuration"]["utility"]
    (folder / "run.json").write_text(json.dumps(description))
    with pytest.raises(RequestError, match="line 1 is not a record: the field 'word_recall' is missing"):
        read_records(folder)
