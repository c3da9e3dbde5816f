"""Figures as Plotly draws them: plain data, which the page's script colours for its theme.

A colour that is a property of the page's style, such as "--ink", the script replaces by its value. Plotly reads markup
in labels, so all text is escaped.
"""

from collections.abc import Sequence
from typing import Any

from cokv_bench.report.figures import Dot, Dots, Figure, Heat, Kind, Lines, number
from cokv_bench.report.html.line_charts import line_chart
from cokv_bench.report.html.parts import FAINT, INK, SYMBOLS, method_colour, reach, safe, with_interval
from cokv_bench.report.palettes import DIVERGING, SEQUENTIAL, look

#: Cells of a panel up to which each says its number.
_SPOKEN = 60
#: Dots from which on the end of a plot is out of sight.
_TALL = 20


def chart(figure: Figure) -> list[dict[str, Any]]:
    """The plots of a figure, each with `title`, `height` (pixels), `data` and `layout`; a heat map has one a panel."""
    if isinstance(figure, Lines):
        return [line_chart(figure)]
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


def _dots(figure: Dots) -> dict[str, Any]:
    # A trace a look: error bars have one colour a trace. Places are numbers, since a label may come twice.
    data = []
    looks = [(dot.style, dot.blind) for dot in figure.dots]
    for each in dict.fromkeys(looks):
        places = [place for place, found in enumerate(looks) if found == each]
        data.append(_dots_of(*each, places, [figure.dots[place] for place in places]))
    x_axis = {"title": {"text": safe(figure.x_label)}, "zeroline": figure.zero, "zerolinecolor": INK}
    if len(figure.dots) > _TALL:
        x_axis["side"] = "top"
    y_axis = {
        "tickvals": list(range(len(figure.dots))),
        "ticktext": [safe(dot.label) for dot in figure.dots],
        "range": [len(figure.dots) - 0.5, -0.5],
        "zeroline": False,
    }
    height = 110 + 21 * len(figure.dots)
    return {"title": "", "height": height, "data": data, "layout": {"xaxis": x_axis, "yaxis": y_axis}}


def _dots_of(style: int, blind: bool, places: list[int], dots: list[Dot]) -> dict[str, Any]:
    symbol, colour = SYMBOLS[look(style).marker], FAINT if blind else method_colour(style)
    values, lows, highs = (tuple(getattr(dot, end) for dot in dots) for end in ("value", "low", "high"))
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(values),
        "y": places,
        "error_x": reach(values, lows, highs),
        "text": [
            safe(", ".join([f"{dot.label}: {with_interval(dot.value, dot.low, dot.high)}", *filter(None, dot.cells)]))
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
        "x": [safe(label) for label in figure.x],
        "y": [safe(label) for label in figure.y],
        "z": [[None if v is None else figure.share(v) for v in row] for row in panel.values],
        "text": [["" if v is None else f"{v:.3g}" for v in row] for row in panel.values],
        "hovertemplate": f"{safe(figure.x_label)} %{{x}}, {safe(figure.y_label)} %{{y}}: %{{text}}<extra></extra>",
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[index / (len(stops) - 1), stop] for index, stop in enumerate(stops)],
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
    }
    if rows * columns <= _SPOKEN:
        data["texttemplate"] = "%{text}"
    x_axis = {"title": {"text": safe(figure.x_label)}, "type": "category", "dtick": -(-columns // 10)}
    y_axis = {
        "title": {"text": safe(figure.y_label), "standoff": 6},
        "type": "category",
        "autorange": "reversed",
        "dtick": -(-rows // 10),
    }
    height = 75 + max(24 * rows, 60)
    return {"title": panel.title, "height": height, "data": [data], "layout": {"xaxis": x_axis, "yaxis": y_axis}}
