"""Figures as Plotly draws them: plain data, which the page's script colours for its theme.

Where a colour is "ink", the script puts the theme's. Plotly reads markup in labels, so all text is escaped.
"""

import html
import math
from collections.abc import Sequence
from typing import Any

from cokv_bench.report.figures import Dot, Dots, Figure, Heat, Kind, Lines, Number, Series, number
from cokv_bench.report.palettes import DIVERGING, QUALITATIVE, SEQUENTIAL, marker

_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "pentagon")
_DASHES = ("solid", "dash", "dot", "dashdot")
#: Those of reference levels, none of them solid.
_LEVELS = ("dot", "dashdot", "longdash", "longdashdot")
#: Cells of a panel up to which each says its number.
_SPOKEN = 60
#: Dots from which on the end of a plot is out of sight.
_TALL = 20


def chart(figure: Figure) -> list[dict[str, Any]]:
    """The plots of a figure, each with `title`, `height` (pixels), `data` and `layout`; a heat map has one a panel."""
    if isinstance(figure, Lines):
        return [_lines(figure)]
    if isinstance(figure, Dots):
        return [_dots(figure)]
    return [_panel(figure, place) for place in range(len(figure.panels))]


def comparable(kinds: Sequence[Kind]) -> list[dict[str, Any]]:
    """Maps of which the page's script draws the difference of any two.

    Returns:
        Of each kind `name`, `about`, `ratio`, its `maps` (name and rows of numbers), the header of the table of its
        numbers, and the `plot` of a map, into which the script puts the difference.
    """
    found = []
    for kind in kinds:
        figure = kind.difference
        (plot,) = chart(figure)
        found.append(
            {
                "name": kind.name,
                "about": kind.about,
                "unit": kind.unit,
                "ratio": kind.ratio,
                "maps": [{"name": panel.title, "rows": panel.values} for panel in kind.panels],
                "header": figure.table.header,
                "plot": plot,
            }
        )
    return found


def gradient(figure: Heat) -> tuple[list[str], list[str]]:
    """The colours of a heat map's scale from low to high, and the numbers at its ends, quarters and middle."""
    ticks = [number(float(f"{figure.at(share):.3g}")) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return list(_stops(figure)), ticks


def _stops(figure: Heat) -> tuple[str, ...]:
    return DIVERGING if figure.diverging else SEQUENTIAL


def _lines(figure: Lines) -> dict[str, Any]:
    data: list[dict[str, Any]] = []
    ticks = figure.ticks or [1.0]
    ends = [ticks[0] / 1.25, ticks[-1] * 1.25]
    for index, series in enumerate(figure.series):
        data += _reference(series, ends) if series.reference else [_line(figure, index)]
    x_axis: dict[str, Any] = {"title": {"text": _safe(figure.x_label)}}
    if figure.log_x:
        shown = {"tickvals": ticks, "ticktext": [figure.told(tick) for tick in ticks]}
        x_axis |= {"type": "log", "range": [math.log10(end) for end in ends], **shown}
    y_axis: dict[str, Any] = {"title": {"text": _safe(figure.y_label)}}
    if figure.log_y:
        marks = figure.decades
        y_axis |= {"type": "log", "tickvals": marks, "ticktext": [number(mark) for mark in marks]}
    rows = -(-len(figure.series) // 4)
    return {"title": "", "height": 380 + 22 * rows, "data": data, "layout": {"xaxis": x_axis, "yaxis": y_axis}}


def _line(figure: Lines, index: int) -> dict[str, Any]:
    series = figure.series[index]
    colour = QUALITATIVE[series.style % len(QUALITATIVE)]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": _safe(series.name),
        "x": figure.placed(index),
        "y": list(series.y),
        "error_y": _reach(series.y, series.low, series.high),
        "text": [
            _safe(f"{series.name}, {figure.told(x)}: {_with_interval(y, low, high)}")
            for x, y, low, high in zip(series.x, series.y, series.low, series.high, strict=True)
        ],
        "hoverinfo": "text",
        "line": {"color": colour, "width": 2, "dash": _DASHES[series.dash % len(_DASHES)]},
        "marker": {"size": 8, "symbol": _SYMBOLS[marker(series.style)], "color": colour},
    }


def _reference(series: Series, ends: list[float]) -> list[dict[str, Any]]:
    """A level over the whole width, its interval as a band."""
    name, level = _safe(series.name), series.y[0]
    low, high = series.low[0], series.high[0]
    across = {"type": "scatter", "mode": "lines", "x": ends}
    line = {
        **across,
        "name": name,
        "y": [level, level],
        "text": [_safe(f"{series.name}: {_with_interval(level, low, high)}")] * 2,
        "hoverinfo": "text",
        "line": {"color": "ink", "width": 2, "dash": _LEVELS[series.dash % len(_LEVELS)]},
    }
    if low is None or high is None:
        return [line]
    edge = {**across, "hoverinfo": "skip", "showlegend": False, "line": {"width": 0}}
    band = {**edge, "y": [high, high], "fill": "tonexty", "fillcolor": "rgba(128, 128, 128, 0.18)"}
    return [{**edge, "y": [low, low]}, band, line]


def _dots(figure: Dots) -> dict[str, Any]:
    # A trace a style: error bars have one colour a trace. Places are numbers, since a label may come twice.
    data = []
    for style in dict.fromkeys(dot.style for dot in figure.dots):
        places = [place for place, dot in enumerate(figure.dots) if dot.style == style]
        data.append(_dots_of(style, places, [figure.dots[place] for place in places]))
    x_axis = {"title": {"text": _safe(figure.x_label)}, "zeroline": figure.zero, "zerolinecolor": "ink"}
    if len(figure.dots) > _TALL:
        x_axis["side"] = "top"
    y_axis = {
        "tickvals": list(range(len(figure.dots))),
        "ticktext": [_safe(dot.label) for dot in figure.dots],
        "range": [len(figure.dots) - 0.5, -0.5],
        "zeroline": False,
    }
    height = 110 + 21 * len(figure.dots)
    return {"title": "", "height": height, "data": data, "layout": {"xaxis": x_axis, "yaxis": y_axis}}


def _dots_of(style: int, places: list[int], dots: list[Dot]) -> dict[str, Any]:
    symbol, colour = _SYMBOLS[marker(style)], QUALITATIVE[style % len(QUALITATIVE)]
    values, lows, highs = (tuple(getattr(dot, end) for dot in dots) for end in ("value", "low", "high"))
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(values),
        "y": places,
        "error_x": _reach(values, lows, highs),
        "text": [
            _safe(", ".join([f"{dot.label}: {_with_interval(dot.value, dot.low, dot.high)}", *filter(None, dot.cells)]))
            for dot in dots
        ],
        "hoverinfo": "text",
        "showlegend": False,
        "marker": {
            "size": 9,
            "color": colour,
            "symbol": [symbol + ("-open" if dot.faint else "") for dot in dots],
            "line": {"width": 2, "color": colour},
        },
    }


def _panel(figure: Heat, place: int) -> dict[str, Any]:
    panel, stops = figure.panels[place], _stops(figure)
    rows, columns = len(figure.y), len(figure.x)
    data: dict[str, Any] = {
        "type": "heatmap",
        "x": [_safe(label) for label in figure.x],
        "y": [_safe(label) for label in figure.y],
        "z": [[None if v is None else figure.share(v) for v in row] for row in panel.values],
        "text": [["" if v is None else f"{v:.3g}" for v in row] for row in panel.values],
        "hovertemplate": f"{_safe(figure.x_label)} %{{x}}, {_safe(figure.y_label)} %{{y}}: %{{text}}<extra></extra>",
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[index / (len(stops) - 1), stop] for index, stop in enumerate(stops)],
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
    }
    if rows * columns <= _SPOKEN:
        data["texttemplate"] = "%{text}"
    x_axis = {"title": {"text": _safe(figure.x_label)}, "type": "category", "dtick": -(-columns // 10)}
    y_axis = {
        "title": {"text": _safe(figure.y_label), "standoff": 6},
        "type": "category",
        "autorange": "reversed",
        "dtick": -(-rows // 10),
    }
    height = 75 + max(24 * rows, 60)
    return {"title": panel.title, "height": height, "data": [data], "layout": {"xaxis": x_axis, "yaxis": y_axis}}


def _reach(middle: tuple[Number, ...], low: tuple[Number, ...], high: tuple[Number, ...]) -> dict[str, Any]:
    """Error bars, nothing where an interval is not known."""

    def lengths(one: tuple[Number, ...], other: tuple[Number, ...]) -> list[Number]:
        return [None if a is None or b is None else max(b - a, 0.0) for a, b in zip(one, other, strict=True)]

    above, below = lengths(middle, high), lengths(low, middle)
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1, "width": 3}


def _with_interval(value: Number, low: Number, high: Number) -> str:
    return number(value) + ("" if low is None or high is None else f" ({number(low)} to {number(high)})")


def _safe(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False)
