"""How lines look and where their names stand: no two methods alike, no name over another, ceilings as levels."""

import itertools
import math
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench.registries import METHODS, SCORERS
from cokv_bench.report.figures import Lines, Series, ranked
from cokv_bench.report.folders import read_folders
from cokv_bench.report.groups import make_groups
from cokv_bench.report.html import write_page
from cokv_bench.report.html.charts import chart
from cokv_bench.report.html.parts import SIGNS, SYMBOLS, method_colours
from cokv_bench.report.html.shell import packaged
from cokv_bench.report.labels import shorten, spread
from cokv_bench.report.marks import CHANCE, FEW, NO_GAP, blind_cells
from cokv_bench.report.methods import described, styles
from cokv_bench.report.palettes import DASHES, MARKERS, QUALITATIVE, QUALITATIVE_DARK, look
from cokv_bench.report.static import save
from cokv_bench.report.summary import summary
from tests.report.made_run import METHODS as RUN_METHODS
from tests.report.made_run import make_run
from tests.report.test_html import Page

#: Papers of the page's two themes, as page.css has them.
WHITE, DARK = "#ffffff", "#14171c"
#: What those see who lack one kind of cones (Machado and others, 2009), in linear red, green and blue.
PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
EYES: tuple[Any, ...] = (None, PROTANOPIA, DEUTERANOPIA)

Triple = tuple[float, float, float]


def linear(colour: str) -> Triple:
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares)
    return red, green, blue


def times(matrix: Any, vector: Triple) -> Triple:
    one, two, three = (sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)
    return one, two, three


def lab(rgb: Triple) -> Triple:
    """CIELAB of linear sRGB."""
    to_xyz = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.072175), (0.0193339, 0.119192, 0.9503041))

    def root(share: float) -> float:
        return math.cbrt(share) if share > 0.008856 else 7.787 * share + 16 / 116

    x, y, z = (root(value / white) for value, white in zip(times(to_xyz, rgb), (0.95047, 1.0, 1.08883), strict=True))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def seen(colour: str, eye: Any) -> Triple:
    rgb = linear(colour)
    if eye is None:
        return lab(rgb)
    red, green, blue = (min(max(share, 0.0), 1.0) for share in times(eye, rgb))
    return lab((red, green, blue))


def luminance(colour: str) -> float:
    red, green, blue = linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("colours", "paper"), [(QUALITATIVE, WHITE), (QUALITATIVE_DARK, DARK)])
def test_colours_of_methods_are_told_apart(colours: tuple[str, ...], paper: str) -> None:
    assert len(colours) >= 13
    assert f"--paper: {paper}" in packaged("page.css")
    # A difference of 2 is just noticed side by side; 20 are two colours. The colour-blind have markers as well.
    for eye, least in zip(EYES, (20, 9, 9), strict=True):
        places = [seen(colour, eye) for colour in colours]
        assert min(math.dist(a, b) for a, b in itertools.combinations(places, 2)) > least
    for colour in colours:
        dark, light = sorted((luminance(colour), luminance(paper)))
        assert (light + 0.05) / (dark + 0.05) >= 3  # WCAG 2.1, 1.4.11
        # Greys are left to the full cache and ceilings.
        assert math.hypot(*seen(colour, None)[1:]) > 20


def test_markers_and_dashes_tell_methods_apart_without_colours() -> None:
    looks = [look(style) for style in range(MARKERS * DASHES)]
    assert len({(each.marker, each.dash) for each in looks}) == len(looks)
    points = [look(style) for style in range(MARKERS * len(QUALITATIVE))]
    assert len({(each.colour, each.marker) for each in points}) == len(points)
    assert len(SYMBOLS) == len(SIGNS) == MARKERS


def test_both_themes_have_all_colours() -> None:
    found = re.findall(r"(--method-\d+):(#[0-9a-f]{6})", method_colours())
    names = [f"--method-{place}" for place in range(len(QUALITATIVE))]
    dark = list(zip(names, QUALITATIVE_DARK, strict=True))
    assert found == [*zip(names, QUALITATIVE, strict=True), *dark, *dark]


def test_no_two_methods_of_a_report_have_one_look() -> None:
    every = [*METHODS, *SCORERS, "oracle", "window+adaptive", "snapkv:kernel=11"]
    style = styles(every)
    assert len(set(style.values())) == len(style)
    assert not {"full", "oracle"} & set(style)
    few = styles(every[: len(QUALITATIVE)])
    assert len({look(number).colour for number in few.values()}) == len(few)
    # Those that are compared most have the same look in every report.
    for name in ("snapkv", "cokv-search", "cokv", "ada-snapkv", "pyramidkv", "headkv"):
        assert styles([name, "h2o"])[name] == style[name]


@given(st.lists(st.floats(-2, 3), max_size=30), st.floats(0.001, 0.2))
def test_names_keep_their_order_and_their_distance(wanted: list[float], gap: float) -> None:
    places = spread(wanted, gap, 0.0, 1.0)
    assert len(places) == len(wanted)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    ordered = [place for _, place in sorted(zip(wanted, places, strict=True))]
    room = min(gap, 1 / max(len(wanted) - 1, 1))
    assert all(b - a >= room - 1e-9 for a, b in itertools.pairwise(ordered))


def test_names_stay_where_there_is_room_and_share_it_where_not() -> None:
    assert spread([0.9, 0.1, 0.5], 0.1, 0.0, 1.0) == pytest.approx([0.9, 0.1, 0.5])
    assert spread([0.5, 0.5], 0.2, 0.0, 1.0) == pytest.approx([0.4, 0.6])
    assert spread([1.0, 1.0, 0.2], 0.1, 0.0, 1.0) == pytest.approx([0.9, 1.0, 0.2])
    assert spread([0.5] * 5, 1.0, 0.0, 1.0) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert spread([], 0.1, 0.0, 1.0) == []
    assert shorten("snapkv") == "snapkv"
    assert shorten("a" * 40 + "b" * 40) == "a" * 16 + "…" + "b" * 16


def lines(*series: Series) -> Lines:
    return Lines("scores", "", "budget", "score", ranked(series), log_x=True, apart=True)


def test_a_line_is_named_at_its_end() -> None:
    one = Series.plain("snapkv", (64, 128), (10.0, 50.0), about="what the last tokens look at")
    two = Series.plain("cokv", (64, 128), (20.0, 50.5), style=2)
    (plot,) = chart(lines(one, two))
    names = plot["named"]["annotations"]
    assert [(name["sign"], name["text"], name["font"]["color"]) for name in names] == [
        ("●", "snapkv", "--method-0"),
        ("▲", "cokv", "--method-2"),
    ]
    assert names[0]["hovertext"] == "snapkv. what the last tokens look at"
    # In the pixels of the plot they are a line of text apart, though their numbers nearly meet.
    pixels = plot["height"] - plot["layout"]["margin"]["t"] - plot["layout"]["margin"]["b"]
    assert (names[1]["y"] - names[0]["y"]) * pixels >= 15 - 1e-6
    low, high = plot["layout"]["yaxis"]["range"]
    for name, shape, y in zip(names, plot["named"]["shapes"], (50.0, 50.5), strict=True):
        assert shape["y0"] == pytest.approx((y - low) / (high - low))
        assert (shape["x1"], shape["y1"]) == (1, name["y"])
        assert 0 < shape["x0"] < 1


def test_lines_without_a_known_point_are_drawn_without_a_word(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="drawing needs matplotlib")
    level = Series.plain("full", [0], [1.0], reference=True)
    ceiling = Series.plain("oracle", [64], [0.5], ceiling=True)
    unknown = Series.plain("m", [64, 128], [None, None])
    for series in ((level, unknown), (level, ceiling)):
        figure = Lines("none", "", "x", "y", series, log_x=True, apart=True)
        assert not figure.has_points
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            save(figure, tmp_path / "none.png")


def test_many_lines_have_room_for_their_names() -> None:
    (plot,) = chart(lines(*(Series.plain(f"method {n}", (64, 128), (1.0, 1.0), style=n) for n in range(40))))
    places = sorted(name["y"] for name in plot["named"]["annotations"])
    pixels = plot["height"] - plot["layout"]["margin"]["t"] - plot["layout"]["margin"]["b"]
    assert all((b - a) * pixels >= 15 - 1e-6 for a, b in itertools.pairwise(places))


def test_the_full_cache_and_ceilings_are_neutral_levels() -> None:
    full = Series.plain("full", (0,), (90.0,), reference=True)
    ceiling = Series.plain("oracle (ceiling)", (64, 128), (70.0, 85.0), ceiling=True)
    (plot,) = chart(lines(full, ceiling))
    level, drawn = plot["data"]
    assert {trace["line"]["color"] for trace in (level, drawn)} == {"--ink"}
    assert {trace["mode"] for trace in (level, drawn)} == {"lines"}
    assert level["line"]["dash"] != drawn["line"]["dash"]
    # At a single budget a line would be a point that nobody sees.
    (single,) = chart(lines(full, Series.plain("oracle (ceiling)", (64,), (85.0,), ceiling=True)))
    assert single["data"][1]["y"] == [85.0, 85.0]


def test_single_budgets_are_in_the_order_of_their_numbers() -> None:
    series = [Series.plain(name, (64,), (y,)) for name, y in (("a", 3.0), ("b", None), ("c", 1.0))]
    assert [line.name for line in ranked(series)] == ["b", "c", "a"]
    longer = [Series.plain(name, (64, 128), (y, y)) for name, y in (("a", 3.0), ("c", 1.0))]
    assert list(ranked(longer)) == longer


def test_methods_are_described_as_in_the_list() -> None:
    assert described("snapkv") == described("snapkv:kernel=11") == METHODS.line("snapkv")
    assert described("window+adaptive") == (
        "Ranking: the pooled attention of the last prompt tokens (SnapKV). "
        "Split: the heads of each layer compete (Ada-KV)."
    )
    assert described("oracle").startswith("Ranking: a ceiling, not a method")
    assert described("of no plug-in") == described("window+nothing") == described("a+b+c") == ""


def cell(**changes: Any) -> dict[str, pd.DataFrame]:
    """Tables of two methods on one task at one budget, which discriminate, with changes of the comparison."""
    scores = pd.DataFrame(
        {
            "method": ["full", "snapkv", "cokv", "oracle"],
            "budget": pd.array([None, 64, 64, 64], dtype="Int64"),
            "task": "needle",
            "score": [80.0, 78.0, changes.pop("score", 79.0), 10.0],
            "ci_low": [70.0, 70.0, changes.pop("ci_low", 70.0), 5.0],
            "ci_high": [90.0, 85.0, changes.pop("ci_high", 85.0), 15.0],
        }
    )
    row = {"budget": 64, "task": "needle", "method": "cokv", "difference": 1.0, "least_p": 0.001}
    row |= {"within_noise": True, "discriminates": True, **changes}
    compared = pd.DataFrame([row, {**row, "budget": pd.NA}]).astype({"budget": "Int64"})
    return {"scores.csv": scores, "comparisons.csv": compared}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, NO_GAP),
        ({"ci_high": 79.5}, None),  # shown to be below the full cache
        ({"score": 80.0, "ci_low": math.nan, "ci_high": math.nan}, NO_GAP),  # the full cache's own answers
        ({"ci_low": math.nan, "ci_high": math.nan}, None),
        ({"within_noise": False}, None),  # it did tell two methods apart
        ({"discriminates": False}, CHANCE),
        ({"discriminates": False, "least_p": 0.2}, FEW),
        ({"difference": math.nan}, None),  # unequal totals say nothing about the task
    ],
)
def test_cells_that_cannot_tell_methods_apart(changes: dict[str, Any], reason: str | None) -> None:
    assert blind_cells(cell(**changes)) == ({(64, "needle"): reason} if reason else {})


def test_without_comparisons_no_cell_is_blind() -> None:
    tables = cell()
    del tables["comparisons.csv"]
    assert blind_cells(tables) == {}


def test_the_page_says_what_was_found_what_methods_are_and_what_tells_nothing(tmp_path: Path) -> None:
    runs, benches = read_folders([make_run(tmp_path / "run", examples=4)])
    write_page(tmp_path / "report.html", runs, benches, make_groups(runs, benches))
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    shown = "".join(page.shown)
    sentences = summary(runs[0].tables, runs[0].configuration)
    assert sentences
    assert " ".join(sentences) in shown
    titles = Counter(attributes["title"] for _, attributes in page.tags if "title" in attributes)
    for method in RUN_METHODS:
        assert METHODS.line(method) in shown
        assert titles[METHODS.line(method)] > 0
    blind = [attributes["title"] for _, attributes in page.tags if attributes.get("class") == "blind"]
    cells = blind_cells(runs[0].tables)
    assert cells
    assert Counter(blind) == Counter([*cells.values()] * (len(RUN_METHODS) - 1))
    regions = [attributes for tag, attributes in page.tags if attributes.get("class") == "wide"]
    assert all(each.get("role") == "region" and each.get("aria-label") for each in regions)
