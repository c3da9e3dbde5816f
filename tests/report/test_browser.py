"""The page in a real browser: a script at its end uses it as a reader would, and writes down what it saw."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cokv_bench.budgets import HeadShares, HeadValues, embedded
from cokv_bench.report.folders import read_folders
from cokv_bench.report.groups import make_groups
from cokv_bench.report.heads import head_map
from cokv_bench.report.html import write_page
from tests.report.made_run import ATTACKS, make_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (Debian: apt-get install chromium)")

#: Runs in the page before its own scripts: nothing may be called, and no error is missed.
_WATCH = """<script>
window.wrong = [];
window.alert = (text) => window.wrong.push(`alert ${text}`);
window.addEventListener("error", (event) => window.wrong.push(String(event.message)));
window.addEventListener("unhandledrejection", (event) => window.wrong.push(String(event.reason)));
document.addEventListener("securitypolicyviolation", (event) => window.wrong.push(event.violatedDirective));
for (const level of ["error", "warn"]) console[level] = (...words) => window.wrong.push(words.join(" "));
</script>"""
_LAYER = 17
_USE = """<script>
const LAYER = %d;
(async () => {
  const seen = {};
  const pause = (time) => new Promise((done) => setTimeout(done, time));
  const until = async (test) => { for (let turn = 0; turn < 200 && !test(); turn++) await pause(50); };
  const $ = (selector) => document.querySelector(selector);
  const count = () => $("#count").textContent;
  const choose = async (name, value) => {
    const field = $(`#filters [name=${name}]`);
    field.value = value;
    field.dispatchEvent(new Event(name === "search" ? "input" : "change", { bubbles: true }));
    await pause(300);
  };
  try {
    await until(() => !$("#filters").hidden);
    seen.all = count();
    seen.texts = [...document.querySelectorAll(".answer .said")].map((element) => element.textContent)
      .filter((text, place, all) => text.includes("<") && all.indexOf(text) === place);
    seen.pages = $("#where").textContent;
    $("#next").click();
    seen.second = $("#where").textContent;
    await choose("method", "snapkv");
    seen.budgets = [...$("#filters [name=budget]").options].map((option) => option.value);
    await choose("budget", seen.budgets.at(-1));
    seen.largest = count();
    await choose("budget", "64");
    seen.snapkv = count();
    await choose("outcome", "lost");
    seen.lost = count();
    await choose("outcome", "won");
    seen.won = count();
    for (const name of ["method", "budget", "outcome"]) await choose(name, "");
    await choose("task", "0");
    await choose("search", "answer 7 of COKV");
    seen.searched = count();
    seen.marked = [...document.querySelectorAll("mark")].map((element) => element.textContent);
    await choose("search", "which <i>7");
    seen.question = count();
    for (const key of ["curves", "heads"]) {
      document.getElementById(key).scrollIntoView();
      await until(() => $(`#${key} .figure:not([hidden]) .js-plotly-plot`));
    }
    const group = $("select[data-group=curves]");
    seen.figures = group.options.length;
    group.selectedIndex = 1;
    group.dispatchEvent(new Event("change"));
    $("#curves").scrollIntoView();
    await until(() => $("#curves .figure:not([hidden]) .js-plotly-plot"));
    seen.shown = [...document.querySelectorAll("#curves .figure:not([hidden]) figcaption strong")]
      .map((element) => element.textContent);
    seen.legend = [...document.querySelectorAll("#curves .figure:not([hidden]) .legendtext")]
      .map((element) => element.textContent);
    seen.named = [...document.querySelectorAll("#curves .figure:not([hidden]) .annotation-text")]
      .map((element) => element.textContent);
    const plot = $("#curves .figure:not([hidden]) .js-plotly-plot").getBoundingClientRect();
    const boxes = [...document.querySelectorAll("#curves .figure:not([hidden]) .annotation-text")]
      .map((element) => element.getBoundingClientRect());
    seen.cut = boxes.filter((box) => box.right > plot.right || box.top < plot.top || box.bottom > plot.bottom).length;
    boxes.sort((a, b) => a.top - b.top);
    seen.covered = boxes.slice(1).filter((box, place) => box.top < boxes[place].bottom - 4).length;
    const [one, other] = document.querySelectorAll(".pairs select");
    const names = (select) => [...select.options].map((option) => option.textContent);
    // Of one layer: a title holds little.
    const cells = () => [...document.querySelectorAll(".pairs tbody tr")].map(
      (row) => [0, 1, 2 + LAYER].map((place) => row.cells[place].textContent));
    const pick = async (select, place) => {
      select.focus();
      select.selectedIndex = place;
      select.dispatchEvent(new Event("change"));
      await pause(100);
    };
    seen.maps = [...one.querySelectorAll("optgroup")].map((group) => [group.label, group.children.length]);
    seen.others = names(other);
    await pick(one, 0);
    await pick(other, 2);
    seen.pair = $(".pairs [role=status]").textContent;
    seen.ratios = cells();
    seen.coloured = $(".pairs .js-plotly-plot").data[0].z.map((row) => row[LAYER]);
    await pick(one, names(one).length - 1);
    seen.values = names(other);
    seen.pairOfValues = $(".pairs [role=status]").textContent;
    seen.lessened = cells();
    seen.focus = [document.activeElement === one, one.labels[0].textContent.startsWith("Map"), one.tabIndex];
    seen.plots = document.querySelectorAll(".pairs .js-plotly-plot").length;
    const paper = () => getComputedStyle(document.body).backgroundColor;
    seen.papers = [paper()];
    $("#theme").click();
    seen.papers.push(paper());
    seen.inks = [$(".pairs .js-plotly-plot").layout.font.color, getComputedStyle(document.body).color];
    seen.width = innerWidth;
    seen.hanging = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  } catch (error) { window.wrong.push(String(error)); }
  seen.wrong = window.wrong.slice(0, 5).map((text) => text.slice(0, 100));
  parent.postMessage(JSON.stringify(seen), "*");
})();
</script>""".replace("%d", str(_LAYER))
#: Around the page, which then is as narrow as wanted (windows have a least width); tells in its title what was seen.
_FRAME = """<body><iframe src="{source}" style="width: {width}px; height: 900px; border: 0"></iframe><script>
addEventListener("message", (event) => {{ document.title = `SEEN${{encodeURIComponent(event.data)}}`; }});
</script></body>"""
_SECONDS = 120


def use(page: Path, *, width: int, script: str = _USE) -> dict[str, Any]:
    """Open a page from disk in a frame of that width (pixels), and return what its user, a script at its end, saw."""
    text = page.read_text(encoding="utf-8")
    used, frame, profile = (page.with_name(name) for name in ("used.html", "frame.html", "profile"))
    watched, end, rest = text.replace("<head>", f"<head>{_WATCH}", 1).rpartition("</body>")
    used.write_text(watched + script + end + rest, encoding="utf-8")
    frame.write_text(_FRAME.format(source=used.name, width=width), encoding="utf-8")
    assert BROWSER is not None
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0")
    command = [BROWSER, *flags, f"--user-data-dir={profile}", f"--window-size={width + 100},1000", frame.as_uri()]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return _seen(profile / "DevToolsActivePort")
    finally:
        browser.terminate()
        browser.wait()


def _seen(port: Path) -> dict[str, Any]:
    """What a title of the browser tells, once it does; its debugging port is in that file once it is open."""
    titles: list[str] = []
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        time.sleep(0.2)
        try:
            url = f"http://127.0.0.1:{port.read_text().split()[0]}/json/list"
            with urllib.request.urlopen(url, timeout=10) as answer:
                titles = [target["title"] for target in json.load(answer)]
        except (OSError, IndexError):
            continue
        for title in titles:
            if title.startswith("SEEN"):
                seen: dict[str, Any] = json.loads(urllib.parse.unquote(title.removeprefix("SEEN")))
                return seen
    raise AssertionError(f"The page was not used to its end in {_SECONDS} s; titles: {titles}")


def make_page(folder: Path, **options: Any) -> Path:
    """A report of a made run, whose CoKV has the embedded values, and of two further head maps."""
    runs, benches = read_folders([make_run(folder / "run", **options)])
    values, shares = HeadValues.load(embedded.values_path()), HeadShares.load(embedded.shares_path())
    halved = replace(values, values=values.values / 2)
    heads = [head_map("searched", shares), head_map("<i>halved</i>", halved)]
    write_page(folder / "report.html", runs, benches, make_groups(runs, benches, heads=heads))
    return folder / "report.html"


@pytest.mark.parametrize("width", [1280, 360])
def test_a_reader_uses_the_report(tmp_path: Path, width: int) -> None:
    page = make_page(tmp_path)
    seen = use(page, width=width)
    assert seen["wrong"] == []
    check_pairs(seen)
    assert seen["all"] == "168 of 168 answers, 24 examples"
    assert (seen["pages"], seen["second"]) == ("Page 1 of 4", "Page 2 of 4")
    assert seen["texts"] == list(ATTACKS[:3])
    assert seen["snapkv"] == "24 of 168 answers, 24 examples"
    assert seen["lost"] == "8 of 168 answers, 8 examples"
    assert seen["won"] == "0 of 168 answers, 0 examples"
    assert seen["searched"] == "2 of 168 answers, 1 example"
    assert seen["marked"] == ["Answer 7 of cokv"] * 2
    assert seen["question"] == "7 of 168 answers, 1 example"
    assert seen["figures"] == 2
    assert seen["shown"] == ["jsonl:<b>own</b>.jsonl, score against budget."]
    methods = ["full", "snapkv", "ada-snapkv", "cokv"]
    # Names stand at the ends of lines where there is room, else in a legend.
    wide = width > 600
    assert sorted(seen["legend"]) == ([] if wide else sorted(methods))
    assert sorted(name[2:] for name in seen["named"]) == (sorted(methods) if wide else [])
    assert (seen["cut"], seen["covered"]) == (0, 0)
    assert seen["papers"] == ["rgb(255, 255, 255)", "rgb(20, 23, 28)"]
    assert (seen["width"], seen["hanging"]) == (width, 0)


def test_each_question_of_a_context_is_shown_by_itself(tmp_path: Path) -> None:
    script = """<script>
    (async () => {
      for (let turn = 0; turn < 200 && document.querySelector("#filters").hidden; turn++)
        await new Promise((done) => setTimeout(done, 50));
      const cards = [...document.querySelectorAll(".example")].slice(0, 3);
      const seen = { count: document.querySelector("#count").textContent, wrong: window.wrong };
      seen.heads = cards.map((card) => card.querySelector(".head").textContent);
      seen.scores = cards.map((card) => [...card.querySelectorAll(".score")].map((score) => score.textContent));
      const outcome = document.querySelector("#filters [name=outcome]");
      outcome.value = "lost";
      outcome.dispatchEvent(new Event("change", { bubbles: true }));
      seen.lost = document.querySelector("#count").textContent;
      parent.postMessage(JSON.stringify(seen), "*");
    })();
    </script>"""
    seen = use(make_page(tmp_path, asked=3), width=1280, script=script)
    assert seen["wrong"] == []
    assert seen["count"] == "504 of 504 answers, 72 questions"
    for place, (head, asked) in enumerate(
        zip(seen["heads"], ("Which <i>0</i>?", "And 0 of 2?", "And 0 of 3?"), strict=True)
    ):
        assert f"question {place + 1} of 3" in head
        assert asked in head
    # Full, SnapKV, Ada-SnapKV and CoKV; SnapKV and CoKV miss the first of the three, and all miss the last.
    assert seen["scores"][0].count("0.0%") == 4
    assert set(seen["scores"][1]) == {"100.0%"}
    assert set(seen["scores"][2]) == {"0.0%"}
    # As many as without the later questions, which no method answers otherwise than the full cache.
    assert seen["lost"].startswith("22 of 504 answers")


def test_shares_of_the_prompt_are_chosen_like_budgets_in_tokens(tmp_path: Path) -> None:
    seen = use(make_page(tmp_path, budgets=(64, 128, "9%", "12.5%", "100%")), width=1280)
    assert seen["wrong"] == []
    assert seen["budgets"] == ["", "64", "128", "9%", "12.5%", "100%"]
    assert seen["snapkv"] == seen["largest"] == "24 of 384 answers, 24 examples"
    assert seen["figures"] == 4


def check_pairs(seen: dict[str, Any]) -> None:
    """Any two maps of a kind can be picked, and the numbers are those of the files."""
    values, shares = HeadValues.load(embedded.values_path()), HeadShares.load(embedded.shares_path())
    budgets = [f"{name}, budget {budget}" for budget in (64, 128) for name in ("searched", "<i>halved</i>", "cokv")]
    assert seen["maps"] == [["tokens kept", 6], ["head value (loglik)", 2], ["standard error (loglik)", 2]]
    assert seen["others"] == [budgets[0], *budgets[2:]]
    assert seen["pair"].startswith("searched, budget 64 against searched, budget 128. Base-2 logarithm")
    first, second = (shares.budgets(budget, window=shares.window).T for budget in (64, 128))
    ratios = np.log2(first / second)
    assert [row[:2] for row in seen["ratios"][2:4]] == [["searched, budget 64", "2"], ["searched, budget 128", "0"]]
    numbers = [float(row[2]) for row in seen["ratios"]]
    assert numbers[:6] == [*first[:, _LAYER], *second[:, _LAYER]]
    assert numbers[6:] == pytest.approx(ratios[:, _LAYER], rel=1e-3)
    assert seen["coloured"] == pytest.approx((1 + ratios[:, _LAYER] / abs(ratios).max()) / 2)
    assert seen["values"] == ["<i>halved</i>"]
    assert seen["pairOfValues"].startswith("cokv against <i>halved</i>. The standard error of the first map less")
    numbers = [float(row[2]) for row in seen["lessened"]]
    assert numbers[:3] == pytest.approx(values.standard_errors[_LAYER], rel=1e-3)
    assert numbers[6:] == [0, 0, 0]
    assert (seen["focus"], seen["plots"]) == ([True, True, 0], 1)
    assert seen["inks"] == ["#e6e8eb", "rgb(230, 232, 235)"]


def test_packed_answers_are_unpacked(tmp_path: Path) -> None:
    page = make_page(tmp_path, examples=2500)
    assert 'data-encoding="gzip"' in page.read_text(encoding="utf-8")
    seen = use(page, width=1280)
    assert seen["wrong"] == []
    assert seen["all"] == "35,000 of 35,000 answers, 5,000 examples"
    assert seen["searched"] == "2 of 35,000 answers, 1 example"
