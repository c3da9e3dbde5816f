"""The leaderboard's page: its numbers are those of the tables, no text is markup, and a reader can use it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cokv_bench.errors import RequestError
from cokv_bench.files import write_folder
from cokv_bench.report.html.leaderboard import write_leaderboard
from cokv_bench.report.leaderboard import read_submissions
from cokv_bench.runs.submission import pack
from cokv_bench.scores.boards import make_boards
from cokv_bench.scores.tables import count_tables
from tests.report.made_run import METHODS, make_run
from tests.report.test_browser import BROWSER, use
from tests.report.test_html import Page

ROW = re.compile(r'<tr data-name="[^"]*"[^>]*>(.*?)</tr>')
SECTION = re.compile(r'<tbody data-section="([^"]*)">(.*?)</tbody>', re.DOTALL)


def make_page(folder: Path) -> Path:
    """Of a submission and a run, which has half of the examples, on which SnapKV is always wrong."""
    write_folder(folder / "packed", pack(make_run(folder / "run"), "first"))
    half = make_run(folder / "<b>second", examples=6)
    lines = [json.loads(line) for line in (half / "records.jsonl").read_text().splitlines()]
    for line in lines:
        if line["method"] == "snapkv" and line["task"] == "needle":
            line["score"] = 0.0
    (half / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    submissions = read_submissions([folder / "packed", half])
    write_leaderboard(folder / "page.html", "Mine & <i>yours</i>", submissions, make_boards(submissions))
    return folder / "page.html"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page that `make_page` makes, which no test writes."""
    return make_page(tmp_path_factory.mktemp("page"))


def cells(row: str) -> list[str]:
    return [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]


def test_nothing_is_fetched_and_no_text_is_markup(path: Path) -> None:
    page = Page(path.read_text(encoding="utf-8"))
    assert not any("src" in attributes or tag in ("link", "img", "iframe") for tag, attributes in page.tags)
    # Those that are there draw scores.
    assert {tag for tag, attributes in page.tags if tag in ("b", "i") and "style" not in attributes} == set()
    shown = "".join(page.shown)
    assert "Mine & <i>yours</i>" in shown
    assert "<b>second" in shown
    assert "<" not in page.data["boards-data"]
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_numbers_are_those_of_the_tables(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    needles = next(part for part in text.split("<article")[1:] if 'data-benchmark="needle"' in part)
    first, second = needles.split('<section class="set">')[1:]
    assert "<strong>12 examples</strong>" in first
    assert "<strong>6 examples</strong>" in second
    (submission,) = read_submissions([path.parent / "packed"])
    scores = count_tables(submission.records, submission.configuration)["scores.csv"]
    found = 0
    for section, body in SECTION.findall(first):
        for row in ROW.findall(body):
            method, score, interval, _, kept, size, n, *_ = cells(row)
            if section != "mean":
                at = scores["budget"].isna() if section == "" else scores["budget"] == int(section)
                (told,) = scores[(scores["task"] == "needle") & (scores["method"] == method) & at].to_dict("records")
                assert score == f"{told['score']:.1f}"
                assert interval == f"{told['ci_low']:.1f}–{told['ci_high']:.1f}"
                assert (kept, size, n) == (f"{told['kept_per_head']:.1f}", f"{told['kv_bytes'] / 2**20:.1f}", "12")
                found += 1
    assert found == 2 * (len(METHODS) - 1) + 1


def test_the_page_says_over_how_many_examples_rows_are_compared(path: Path) -> None:
    page = Page(path.read_text(encoding="utf-8"))
    boards = json.loads(page.data["boards-data"])
    needles = boards[[each["data-benchmark"] for tag, each in page.tags if tag == "article"].index("needle")]
    names = needles["entries"]
    # Of the six needles of both, the first submission's SnapKV finds four and the second's none.
    one, other = sorted([names.index("snapkv · first"), names.index("snapkv · <b>second")])
    (pair,) = [each for each in needles["pairs"]["64"] if each[:2] == [one, other]]
    assert (round(abs(pair[2]), 1), pair[6]) == (66.7, 6)


def test_names_of_two_submissions_must_differ(tmp_path: Path) -> None:
    files = pack(make_run(tmp_path / "run"), "mine")
    for folder in ("a", "b"):
        write_folder(tmp_path / folder, files)
    with pytest.raises(RequestError, match="both called 'mine'"):
        read_submissions([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(RequestError, match="named twice"):
        read_submissions([tmp_path / "a", tmp_path / "a"])


def test_shares_of_the_prompt_and_utilities_have_their_place(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", budgets=(64, "25%"))
    content = json.loads((run / "run.json").read_text())
    content["configuration"]["utility"] = "loglik"
    shutil.copytree(run, tmp_path / "loglik")
    (tmp_path / "loglik" / "run.json").write_text(json.dumps(content))
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    told = [{**line, "score": -line["score"], "unit": "nats per token"} for line in lines]
    for line in told:
        del line["prediction"]
    (tmp_path / "loglik" / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    submissions = read_submissions([run, tmp_path / "loglik"])
    boards = make_boards(submissions)
    assert [board.unit.noun for board in boards] == ["score", "score", "log-probability", "log-probability"]
    assert not any("loglik" in each.submissions and "run" in each.submissions for b in boards for each in b.sets)
    write_leaderboard(tmp_path / "page.html", "Both", submissions, boards)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "25% of the prompt" in text
    assert "nats" in text


_USE = """<script>
(async () => {
  const seen = {};
  const pause = (time) => new Promise((done) => setTimeout(done, time));
  const $ = (selector) => document.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const choose = async (field, value) => {
    field.value = value;
    for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, { bubbles: true }));
    await pause(50);
  };
  try {
    await pause(300);
    const controls = $("#controls");
    seen.all = $("#count").textContent;
    await choose(controls.elements.benchmark, "needle");
    seen.needles = $("#count").textContent;
    await choose(controls.elements.section, "64");
    seen.at64 = $("#count").textContent;
    await choose(controls.elements.search, "cokv");
    seen.cokv = $("#count").textContent;
    await choose(controls.elements.search, "");
    const article = all(".board").find((each) => !each.hidden);
    const row = (name, set) => all("tr[data-name]", all(".set", article)[set])
      .find((each) => each.closest("tbody").dataset.section === "64" && each.dataset.name.startsWith(`${name} `));
    const told = (name, set) => [...row(name, set).cells].slice(-4).map((cell) => cell.textContent);
    seen.before = told("snapkv", 0);
    const reference = article.querySelector("select[name=reference]");
    seen.choices = all("option", reference).map((each) => each.textContent);
    await choose(reference, seen.choices.indexOf("snapkv · <b>second") - 1);
    seen.against = article.querySelector(".against").textContent;
    seen.first = told("snapkv", 0);
    seen.second = told("snapkv", 1);
    await choose(reference, "");
    seen.again = told("snapkv", 0);
    const names = () => all("tbody[data-section='64'] tr[data-name]", all(".set", article)[0])
      .map((each) => each.cells[0].textContent);
    const heading = all("th[data-sort]", article)[0];
    heading.click();
    seen.sorted = names();
    heading.click();
    seen.turned = names();
    const paper = () => getComputedStyle(document.body).backgroundColor;
    seen.papers = [paper()];
    $("#theme").click();
    seen.papers.push(paper());
    seen.hanging = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  } catch (error) { window.wrong.push(String(error)); }
  seen.wrong = window.wrong.slice(0, 5).map((text) => text.slice(0, 100));
  parent.postMessage(JSON.stringify(seen), "*");
})();
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (Debian: apt-get install chromium)")
@pytest.mark.parametrize("width", [1280, 360])
def test_a_reader_uses_the_leaderboard(path: Path, tmp_path: Path, width: int) -> None:
    seen: dict[str, Any] = use(Path(shutil.copy(path, tmp_path / "page.html")), width=width, script=_USE)
    assert seen["wrong"] == []
    # Three methods at a mean and two budgets, of two submissions and two benchmarks.
    assert seen["all"] == "36 rows in 2 groups of tables"
    assert seen["needles"] == "18 rows in 1 group of tables"
    assert seen["at64"] == "6 rows in 1 group of tables"
    assert seen["cokv"] == "2 rows in 1 group of tables"
    assert len(seen["choices"]) == 7
    assert seen["before"][0] == "−33.3"
    assert seen["against"] == "difference from snapkv · <b>second"
    assert (seen["first"][0], seen["first"][3]) == ("+66.7§", "6")
    assert seen["second"] == ["reference", "", "", ""]
    assert seen["again"] == seen["before"]
    assert seen["sorted"] == ["ada-snapkv", "cokv", "snapkv"]
    assert seen["turned"] == seen["sorted"][::-1]
    assert seen["papers"] == ["rgb(255, 255, 255)", "rgb(20, 23, 28)"]
    assert seen["hanging"] == 0


def test_the_page_of_the_repository(tmp_path: Path) -> None:
    """What lies in results/ are its first submissions."""
    results = Path(__file__).resolve().parents[2] / "results"
    submissions = read_submissions([results / "smollm2-135m" / "papers", results / "search" / "needle"])
    boards = make_boards(submissions)
    write_leaderboard(tmp_path / "page.html", "Leaderboard", submissions, boards)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    stored = pd.read_csv(results / "smollm2-135m" / "papers" / "table.csv")
    snapkv = stored[(stored["method"] == "snapkv") & (stored["budget"] == 64)]["needle"].item()
    assert f"<td>{snapkv:.1f}</td>" in text
