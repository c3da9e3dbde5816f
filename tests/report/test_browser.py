"""The page in a real browser: a script at its end uses it as a reader would, and writes down what it saw."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from cokv_bench.report.folders import read_folders
from cokv_bench.report.groups import make_groups
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
_USE = """<script>
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
    await until(() => $("#curves .figure:not([hidden]) .legendtext"));
    seen.shown = [...document.querySelectorAll("#curves .figure:not([hidden]) figcaption strong")]
      .map((element) => element.textContent);
    seen.legend = [...document.querySelectorAll("#curves .figure:not([hidden]) .legendtext")]
      .map((element) => element.textContent);
    const paper = () => getComputedStyle(document.body).backgroundColor;
    seen.papers = [paper()];
    $("#theme").click();
    seen.papers.push(paper());
    seen.width = innerWidth;
    seen.hanging = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  } catch (error) { window.wrong.push(String(error)); }
  seen.wrong = window.wrong.slice(0, 5).map((text) => text.slice(0, 100));
  parent.postMessage(JSON.stringify(seen), "*");
})();
</script>"""
#: Around the page, which then is as narrow as wanted (windows have a least width); tells in its title what was seen.
_FRAME = """<body><iframe src="{source}" style="width: {width}px; height: 900px; border: 0"></iframe><script>
addEventListener("message", (event) => {{ document.title = `SEEN${{encodeURIComponent(event.data)}}`; }});
</script></body>"""
_SECONDS = 120


def use(page: Path, *, width: int) -> dict[str, Any]:
    """Open a report from disk in a frame of that width (pixels), and return what its user saw."""
    text = page.read_text(encoding="utf-8")
    used, frame, profile = (page.with_name(name) for name in ("used.html", "frame.html", "profile"))
    watched, end, rest = text.replace("<head>", f"<head>{_WATCH}", 1).rpartition("</body>")
    used.write_text(watched + _USE + end + rest, encoding="utf-8")
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


@pytest.mark.parametrize("width", [1280, 360])
def test_a_reader_uses_the_report(tmp_path: Path, width: int) -> None:
    runs, benches = read_folders([make_run(tmp_path / "run")])
    page = tmp_path / "report.html"
    write_page(page, runs, benches, make_groups(runs, benches))
    seen = use(page, width=width)
    assert seen["wrong"] == []
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
    assert set(seen["legend"]) == {"full", "snapkv", "ada-snapkv", "cokv"}
    assert seen["papers"] == ["rgb(255, 255, 255)", "rgb(20, 23, 28)"]
    assert (seen["width"], seen["hanging"]) == (width, 0)


def test_packed_answers_are_unpacked(tmp_path: Path) -> None:
    runs, benches = read_folders([make_run(tmp_path / "run", examples=2500)])
    page = tmp_path / "report.html"
    write_page(page, runs, benches, make_groups(runs, benches))
    assert 'data-encoding="gzip"' in page.read_text(encoding="utf-8")
    seen = use(page, width=1280)
    assert seen["wrong"] == []
    assert seen["all"] == "35,000 of 35,000 answers, 5,000 examples"
    assert seen["searched"] == "2 of 35,000 answers, 1 example"
