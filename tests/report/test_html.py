"""The page: what it holds, that no text in it is markup, and that figures agree with the tables."""

import base64
import gzip
import io
import itertools
import json
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cokv_bench.budgets import HeadBudgets, HeadScores, HeadShares, HeadValues, embedded, load_head_file
from cokv_bench.errors import RequestError
from cokv_bench.files import file_sha256
from cokv_bench.report.figures import Dots, Group, Heat, Lines, Panel, Series, named
from cokv_bench.report.folders import read_folders
from cokv_bench.report.groups import make_groups
from cokv_bench.report.head_figures import head_figures
from cokv_bench.report.heads import head_map, maps_of_run, named_map
from cokv_bench.report.html import write_page
from cokv_bench.report.html.embedding import data_element, safe_json
from cokv_bench.report.html.predictions import columns
from cokv_bench.report.palettes import SEQUENTIAL, colour
from cokv_bench.report.static import ENDINGS, draw, draw_all
from cokv_bench.report.terminal import print_heat
from tests.report.made_run import ATTACKS, BUDGETS, EXAMPLES, METHODS, TASKS, make_run

RESULTS = Path(__file__).resolve().parents[2] / "results"


class Page(HTMLParser):
    """The tags of a page, the data of its elements by id, and the text that is shown."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data: dict[str, str] = {}
        self.shown: list[str] = []
        self._inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = dict(attrs).get("id") or tag if tag in ("script", "style") else None

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is None:
            self.shown.append(data)
        else:
            self.data[self._inside] = self.data.get(self._inside, "") + data


def figure(groups: list[Group], key: str, title: str) -> Any:
    (found,) = [f for group in groups if group.key == key for f in group.figures if f.title == title]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("page") / "report.html"
    runs, benches = read_folders([folder])
    write_page(path, runs, benches, make_groups(runs, benches))
    return Page(path.read_text(encoding="utf-8"))


def test_nothing_is_fetched_and_no_text_is_markup(page: Page) -> None:
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert [s.get("id") for s in scripts] == ["figures", "heads-pairs", "answers", *3 * [None]]
    assert not any("src" in attributes or tag in ("link", "img", "iframe") for tag, attributes in page.tags)
    assert not any(tag in ("b", "i") for tag, _ in page.tags)
    assert any(TASKS[1] in shown for shown in page.shown)
    for name in ("figures", "heads-pairs", "answers"):
        assert "<" not in page.data[name]
        json.loads(page.data[name])
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_every_answer_is_in_the_page(page: Page) -> None:
    data = json.loads(page.data["answers"])
    count = len(TASKS) * EXAMPLES * (1 + (len(METHODS) - 1) * len(BUDGETS))
    assert {len(data[key]) for key in ("example", "variant", "text", "score")} == {count}
    assert data["example"] == sorted(data["example"])
    assert set(ATTACKS) <= set(data["strings"])
    assert len(set(data["strings"])) == len(data["strings"])
    _, task, identity, question, answers, place = data["examples"][data["example"][-1]]
    assert place == ""
    assert (data["tasks"][task], identity) == (TASKS[1], f"e{EXAMPLES - 1:05d}")
    assert data["strings"][question] == f"Which <i>{EXAMPLES - 1}</i>?"
    assert [data["strings"][answer] for answer in answers] == [f"No. {EXAMPLES - 1}"]


def test_a_run_without_questions(tmp_path: Path) -> None:
    runs, _ = read_folders([make_run(tmp_path / "run", questions=False)])
    assert {tuple(example[3:4]) for example in columns(runs)["examples"]} == {(-1,)}


@pytest.mark.parametrize("questions", [True, False])
def test_each_question_of_a_context_has_its_own_answer_references_and_score(tmp_path: Path, questions: bool) -> None:
    (run,), _ = read_folders([make_run(tmp_path / "run", asked=3, questions=questions)])
    data = columns([run])
    texts = data["strings"]
    kept = [(example[2], example[5]) for example in data["examples"][:4]]
    assert kept == [("e00000", f"question {place} of 3") for place in (1, 2, 3)] + [("e00001", "question 1 of 3")]
    rows = zip(*(data[name] for name in ("example", "variant", "text", "score")), strict=True)
    of_snapkv = [
        (example, texts[text], score)
        for example, variant, text, score in rows
        if data["variants"][variant] == ["snapkv", 64]
    ]
    # The mean over the three, 33%, is the score of none of them.
    assert of_snapkv[:3] == [(0, ATTACKS[0], 0.0), (1, "Later 2 of snapkv", 1.0), (2, "Later 3 of snapkv", 0.0)]
    assert len(of_snapkv) == 3 * EXAMPLES * len(TASKS)
    asked = [(texts[said], [texts[each] for each in answers]) for *_, said, answers, _ in data["examples"] if said >= 0]
    if questions:
        assert asked[:3] == [
            ("Which <i>0</i>?", ["No. 0"]),
            ("And 0 of 2?", ["No. 0 of 2", "another"]),
            ("And 0 of 3?", ["No. 0 of 3", "another"]),
        ]
    else:
        assert asked == []


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("records.jsonl", {"later_predictions": "x"}, "later_predictions"),
        ("records.jsonl", {"later_predictions": ["x"]}, "one score for each answer"),
        ("records.jsonl", {"question_scores": [1.0, 0.5, 2.0]}, "question_scores"),
        ("examples.jsonl", {"later": [{"question": "x"}]}, "later"),
        ("examples.jsonl", {"later": 3}, "later"),
    ],
)
def test_damaged_later_questions_are_refused(tmp_path: Path, name: str, changes: dict[str, Any], says: str) -> None:
    path = make_run(tmp_path / "run", asked=3) / name
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), **changes}), *others, ""]))
    with pytest.raises(RequestError, match=says):
        read_folders([path.parent])


def test_the_sections_say_what_the_tables_say(page: Page, folder: Path) -> None:
    shown = "".join(page.shown)
    for words in ("Overview", "Scores", "Differences with the baseline", "Needle in a Haystack", "Head maps", "abc123"):
        assert words in shown
    runs, benches = read_folders([folder])
    scores = runs[0].tables["scores.csv"].set_index(["task", "method", "budget"])
    groups = make_groups(runs, benches)
    curve = figure(groups, "curves", "needle, score against budget")
    assert isinstance(curve, Lines)
    by_name = {series.name: series for series in curve.series}
    assert by_name["full"].reference
    assert by_name["full"].y == (100.0,)
    assert by_name["cokv"].x == (64.0, 128.0)
    assert by_name["cokv"].y[0] == pytest.approx(scores.loc[("needle", "cokv", 64), "score"])
    forest = figure(groups, "differences", "needle, points over snapkv")
    assert isinstance(forest, Dots)
    assert [dot.label for dot in forest.dots] == [
        f"{method} {budget}" for budget in ("mean", 64, 128) for method in ("ada-snapkv", "cokv")
    ]
    assert forest.dots[0].value == pytest.approx(100 / 3)
    needles = figure(groups, "needles", "Needles found at budget 64")
    assert isinstance(needles, Heat)
    assert (needles.x, needles.y) == (("512", "1024"), ("0", "50", "100"))
    assert [panel.title for panel in needles.panels] == list(METHODS)
    # SnapKV misses the examples whose number is divisible by three, which stand at depth 0.
    assert needles.panels[1].values == ((0.0, 0.0), (100.0, 100.0), (100.0, 100.0))


def test_tables_of_other_records_are_not_used(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    pd.DataFrame({"task": ["needle"], "method": ["full"], "budget": [None], "n": [1]}).to_csv(run / "scores.csv")
    runs, _ = read_folders([run])
    scores = runs[0].tables["scores.csv"]
    assert scores["n"].sum() == len(runs[0].records)
    assert not (run / "table.csv").exists()


def test_two_runs_in_the_same_figures(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name / "run") for name in ("a", "b")]
    runs, benches = read_folders(folders)
    assert [run.name for run in runs] == ["a/run", "b/run"]
    groups = make_groups(runs, benches)
    curve = figure(groups, "curves", "needle, score against budget")
    assert {series.name for series in curve.series} == {f"{m} · {run.name}" for m in METHODS for run in runs}
    assert [len(f.panels) for group in groups if group.key == "heads" for f in group.figures] == [1, 1, 1, 1]
    write_page(tmp_path / "both.html", runs, benches, groups)
    with pytest.raises(RequestError, match="named twice"):
        read_folders([folders[0], tmp_path / "a" / "." / "run"])


def test_head_maps_are_the_budgets() -> None:
    values, shares = HeadValues.load(embedded.values_path()), HeadShares.load(embedded.shares_path())
    maps = [head_map("cokv", values), head_map("searched", shares)]
    group = head_figures(maps, [64])
    assert group is not None
    tokens, against, value, error = group.figures
    assert isinstance(tokens, Heat)
    first, second = (np.array(panel.values).T for panel in tokens.panels)
    # CoKV has its published window, whatever the profile was measured with.
    assert values.window != 8
    np.testing.assert_array_equal(first, values.budgets(64, window=8))
    np.testing.assert_array_equal(second, shares.budgets(64, window=shares.window))
    assert isinstance(against, Heat)
    np.testing.assert_allclose(2 ** np.array(against.panels[0].values).T * first, second)
    assert (value.title, error.title) == ("head value, cokv", "standard error, cokv")


NAMED = "cokv:sinks=4"


def test_maps_of_a_run_are_made_as_the_run_made_its_budgets() -> None:
    values, scores = HeadValues.load(embedded.values_path()), HeadScores.load(embedded.scores_path())
    configuration = {
        "window": 8,
        "knobs": {
            "chosen": {
                "needle": {"cokv": {"64": {"window": 16, "zeroed": 5, "kernel": 3}}, "headkv": {"64": {"beta": 3.0}}},
                "ruler": {"cokv": {"64": {"window": 32, "kernel": 3}}, "headkv": {"64": {"beta": 3.0}}},
            }
        },
        "head_budgets": {
            "cokv": {"profile": file_sha256(embedded.values_path()), "zeroed": None},
            "headkv": {"head_scores": file_sha256(embedded.scores_path()), "beta": 2.0},
        },
    }
    maps = {each.name: each.tokens for each in maps_of_run(configuration)}
    assert list(maps) == ["cokv, needle", "cokv, ruler", "headkv"]
    np.testing.assert_array_equal(maps["cokv, needle"](64), values.budgets(64, window=16, zeroed=5))
    np.testing.assert_array_equal(maps["cokv, ruler"](64), values.budgets(64, window=32))
    # A budget without a choice has the run's window; what was asked for comes before what was chosen.
    np.testing.assert_array_equal(maps["cokv, needle"](128), values.budgets(128, window=8))
    np.testing.assert_array_equal(maps["headkv"](64), scores.budgets(64, window=8, beta=2.0))
    # First tokens that the run, or a method's name, protects are part of what every head keeps.
    configuration |= {"sinks": 2, "knobs": {}}
    configuration["head_budgets"] = {name: {"profile": file_sha256(embedded.values_path())} for name in ("cokv", NAMED)}
    maps = {each.name: each.tokens for each in maps_of_run(configuration)}
    np.testing.assert_array_equal(maps["cokv"](64), values.budgets(64, window=10))
    np.testing.assert_array_equal(maps[NAMED](64), values.budgets(64, window=12))


def test_maps_of_the_same_kind_are_compared_and_no_others() -> None:
    values, scores = HeadValues.load(embedded.values_path()), HeadScores.load(embedded.scores_path())
    fewer = HeadBudgets({**values.model, "layers": 2}, 96, 8, np.full((2, 3), 96), {"text": "alike", "parameters": {}})
    other = HeadBudgets(values.model, 48, 8, np.full((30, 3), 48), {"text": "alike", "parameters": {}})
    maps = [
        head_map("cokv", values),
        head_map("by score", replace(values, utility="metric")),
        head_map("again", values),
        head_map("headkv", scores),
        head_map("alike", other),
    ]
    group = head_figures(maps, [64])
    assert group is not None
    assert [(kind.name, kind.ratio, [panel.title for panel in kind.panels]) for kind in group.pairs] == [
        (
            "tokens kept",
            True,
            [f"{m.name}, budget 64" for m in maps[:4]] + [f"{m.name}, budget 48" for m in maps],
        ),
        ("head value (loglik)", False, ["cokv", "again"]),
        ("standard error (loglik)", False, ["cokv", "again"]),
    ]
    np.testing.assert_array_equal(np.array(group.pairs[1].panels[0].values).T, values.values)
    sizes = head_figures([head_map("fewer", fewer), head_map("alike", other)], [])
    assert sizes is not None
    assert sizes.pairs == ()


def test_a_single_map_is_compared_with_its_other_budgets() -> None:
    maps = [head_map("cokv", HeadValues.load(embedded.values_path()))]
    for budgets, pairs in (([64], 0), ([64, 128], 1)):
        group = head_figures(maps, budgets)
        assert group is not None
        assert len(group.pairs) == pairs


@pytest.mark.parametrize("path", [embedded.values_path(), embedded.scores_path(), embedded.shares_path()])
def test_all_kinds_of_files_are_known(path: Path) -> None:
    group = head_figures([named_map(f"it={path}")], [128])
    assert group is not None
    tokens = group.figures[0]
    assert isinstance(tokens, Heat)
    assert np.sum(tokens.panels[0].values) == 128 * 90


@pytest.mark.parametrize(
    ("text", "says"),
    [("file.json", "NAME=FILE"), ("a=none.json", "none.json"), ("a={}", "of kind None"), ("a=[", "not a JSON file")],
)
def test_head_maps_that_are_none(tmp_path: Path, text: str, says: str) -> None:
    if text[2:] in ("{}", "["):
        (tmp_path / "file.json").write_text(text[2:])
        text = f"a={tmp_path / 'file.json'}"
    with pytest.raises(RequestError, match=says):
        named_map(text)


def test_a_profile_folder_is_its_values(tmp_path: Path) -> None:
    shutil.copy(embedded.values_path(), tmp_path / "values.json")
    assert isinstance(load_head_file(tmp_path), HeadValues)
    with pytest.raises(RequestError, match="neither"):
        load_head_file(tmp_path / "..")


def test_benchmarks_and_estimators_of_the_repository(tmp_path: Path) -> None:
    runs, benches = read_folders([RESULTS / "gpu" / "decode"])
    files = [RESULTS / "smollm2-135m" / name for name in ("estimators.json", "estimators_quarter_hour.json")]
    groups = make_groups(runs, benches, estimated=files)
    assert [group.key for group in groups] == ["estimators", "costs"]
    memory = figure(groups, "costs", "Memory, decode")
    held = next(series for series in memory.series if series.name == "full, KV kept")
    assert held.y == (512.0, 4096.0, 16384.0)
    halves = groups[0].figures[0]
    assert isinstance(halves, Lines)
    assert next(s for s in halves.series if s.name == "cc, slices").x == (500.0, 5120.0)
    write_page(tmp_path / "report.html", runs, benches, groups)
    assert "answers" not in Page((tmp_path / "report.html").read_text(encoding="utf-8")).data


def test_a_benchmark_that_stopped_before_its_first_measurement(tmp_path: Path) -> None:
    (tmp_path / "bench.csv").write_text((RESULTS / "gpu" / "batch" / "bench.csv").read_text().splitlines()[0] + "\n")
    with pytest.raises(RequestError, match="no measurement yet"):
        read_folders([tmp_path])


def test_many_names_leave_room_for_the_lines_of_a_file() -> None:
    pytest.importorskip("matplotlib", reason="figures as files need matplotlib")
    series = tuple(Series.plain(f"window+adaptive {n}, KV kept", (1.0, 2.0), (1.0, 2.0)) for n in range(44))
    canvas = draw(Lines("Memory", "", "prompt (tokens)", "MiB", series))
    canvas.draw_without_rendering()
    (axis,) = canvas.axes
    names = [text.get_window_extent() for text in axis.texts]
    assert len(names) == len(series)
    bottoms = sorted(box.y0 for box in names)
    assert all(b - a >= 0.9 * box.height for (a, b), box in zip(itertools.pairwise(bottoms), names, strict=False))
    assert all(canvas.bbox.x0 <= box.x0 and box.x1 <= canvas.bbox.x1 for box in names)
    assert axis.get_window_extent().height > canvas.bbox.height / 2


def test_figures_as_files(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="figures as files need matplotlib")
    runs, benches = read_folders([folder, RESULTS / "gpu" / "batch"])
    groups = make_groups(runs, benches, budget=64)
    figures = list(named([Group(g.key, g.title, g.about, g.figures[:1]) for g in groups]))
    assert len(groups) == 5
    draw_all(figures, tmp_path / "figures")
    names = {f"{name}.{ending}" for name, _ in figures for ending in ENDINGS}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == names
    svg = (tmp_path / "figures" / f"{figures[0][0]}.svg").read_text(encoding="utf-8")
    assert svg.startswith("<?xml")
    # 256 colours: the byte after the header's sizes and depth tells.
    assert {path.read_bytes()[25] for path in (tmp_path / "figures").glob("*.png")} == {3}


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_embedded_json_reads_as_it_was(document: Any) -> None:
    text = safe_json(document)
    assert not set("<>&") & set(text)
    assert text.isascii()
    assert json.loads(text) == document


def test_large_data_is_packed() -> None:
    document = [f"<{number}>" for number in range(100_000)]
    element = data_element("answers", document)
    packed = re.fullmatch(r'<script [^>]*id="answers" data-encoding="gzip">([A-Za-z0-9+/=]+)</script>', element)
    assert packed is not None
    assert json.loads(gzip.decompress(base64.b64decode(packed[1]))) == document
    assert len(element) < len(json.dumps(document)) / 2


def test_colours_get_lighter_from_low_to_high() -> None:
    def lightness(share: float) -> float:
        red, green, blue = colour(share, SEQUENTIAL)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    levels = [lightness(step / 50) for step in range(51)]
    assert all(a <= b for a, b in itertools.pairwise(levels))
    assert colour(-1, SEQUENTIAL) == colour(0, SEQUENTIAL)


def test_scales_go_both_ways() -> None:
    heat = Heat("", "", "", "", (), (), (), "", 8.0, 512.0, log=True)
    for value in (8.0, 64.0, 100.0, 512.0):
        assert heat.at(heat.share(value)) == pytest.approx(value)
    assert heat.share(math.sqrt(8 * 512)) == pytest.approx(0.5)


def test_maps_in_a_terminal_have_colours_or_shades() -> None:
    cells = tuple(tuple(float(layer + head) for layer in range(20)) for head in range(2))
    names = tuple(map(str, range(20)))
    heat = Heat("map", "", "layer", "KV head", names, ("0", "1"), (Panel("p", cells),), "tokens", 0.0, 20.0)
    coloured, plain = (
        Console(file=io.StringIO(), width=100, force_terminal=terminal, color_system=system)
        for terminal, system in ((True, "truecolor"), (False, None))
    )
    for console in (coloured, plain):
        print_heat(console, heat)
    assert "48;2;254;232;56" in coloured.file.getvalue()  # type: ignore[attr-defined]
    assert "░" not in coloured.file.getvalue()  # type: ignore[attr-defined]
    assert "██" in plain.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in plain.file.getvalue()  # type: ignore[attr-defined]


def test_many_tasks_of_a_benchmark_are_told_by_their_number() -> None:
    from cokv_bench.report.html.page import _in_short

    few = ["needle", "ruler/vt", "ruler/cwe"]
    assert _in_short(few) == "3: needle, ruler/vt, ruler/cwe"
    assert (
        _in_short([*few, *(f"longbench/{name}" for name in "abcd")]) == "7: needle, ruler/vt, ruler/cwe, longbench (4)"
    )
