"""Lines as Plotly draws them, each named at its right end.

The frame is fixed here, in pixels up and down and in numbers along both axes, so that the places of names are known
before anything is drawn. Where the window is too narrow for names the page's script leaves them out for a legend.
"""

import math
from typing import Any

from cokv_bench.report.figures import Lines, Number, Series, number
from cokv_bench.report.html.parts import INK, LEVEL_SIGN, SIGNS, SYMBOLS, method_colour, reach, safe, with_interval
from cokv_bench.report.labels import shorten, spread
from cokv_bench.report.palettes import look

_DASHES = ("solid", "dash", "dot", "dashdot")
#: Those of reference levels, none of them solid, and of ceilings.
_LEVELS, _CEILING = ("dot", "dashdot", "longdash", "longdashdot"), "longdash"
#: Pixels: of the least plot, above and below it, of a line of text, and of a character of a name.
_PLOT, _TOP, _BOTTOM, _TEXT, _CHARACTER = 320, 14, 52, 15, 6.6
#: How far the axis of numbers goes on beyond them, as a share of them.
_MARGIN = 0.05
#: Beyond the first and last points, as a share of what is between them, and as a factor where there is one alone.
_BESIDE, _ALONE = 0.06, 1.25


def line_chart(figure: Lines) -> dict[str, Any]:
    """The plot of a figure; `named` is what a wide window adds to its layout to name the lines at their ends."""
    x_ends, y_ends = _x_ends(figure), _y_ends(figure)
    drawn = [index for index, series in enumerate(figure.series) if any(y is not None for y in series.y)]
    plot = max(_PLOT, _TEXT * len(drawn))
    data: list[dict[str, Any]] = []
    for index in drawn:
        series = figure.series[index]
        data += _level(series, _undone(figure, x_ends)) if _is_level(series) else [_line(figure, index)]
    x_axis: dict[str, Any] = {"title": {"text": safe(figure.x_label), "standoff": 8}, "range": x_ends}
    if figure.log_x:
        ticks = figure.ticks or [1.0]
        shown = {"tickvals": ticks, "ticktext": [figure.told(tick) for tick in ticks]}
        x_axis |= {"type": "log", **shown}
    y_axis: dict[str, Any] = {"title": {"text": safe(figure.y_label)}, "range": y_ends}
    if figure.log_y:
        marks = figure.decades
        y_axis |= {"type": "log", "tickvals": marks, "ticktext": [number(mark) for mark in marks]}
    margin = {"t": _TOP, "b": _BOTTOM}
    return {
        "title": "",
        "height": plot + _TOP + _BOTTOM,
        "data": data,
        "layout": {"xaxis": x_axis, "yaxis": y_axis, "margin": margin},
        "named": _names(figure, drawn, x_ends, y_ends, plot),
    }


def _is_level(series: Series) -> bool:
    """Whether it is drawn over the whole width: a reference, or a ceiling of one point, which is no line."""
    return series.reference or (series.ceiling and len(series.x) == 1)


def _x_ends(figure: Lines) -> list[float]:
    """Ends of the axis: of a logarithmic one their logarithms, as Plotly has them."""
    places = [x for index, s in enumerate(figure.series) if not _is_level(s) for x in figure.placed(index)]
    if figure.log_x:
        logs = [math.log10(x) for x in (*places, *(figure.ticks or [1.0]))]
        beside = _BESIDE * (max(logs) - min(logs)) or math.log10(_ALONE)
        return [min(logs) - beside, max(logs) + beside]
    every = places or [0.0]
    beside = _BESIDE * (max(every) - min(every)) or 1.0
    return [min(every) - beside, max(every) + beside]


def _y_ends(figure: Lines) -> list[float]:
    """The same of the numbers and their intervals."""
    every = [value for s in figure.series for value in (*s.y, *s.low, *s.high) if value is not None]
    if figure.log_y:
        every = [math.log10(value) for value in every if value > 0]
    if not every:
        return [0.0, 1.0]
    beside = _MARGIN * (max(every) - min(every)) or abs(_MARGIN * every[0]) or 1.0
    return [min(every) - beside, max(every) + beside]


def _undone(figure: Lines, ends: list[float]) -> list[float]:
    return [10**end for end in ends] if figure.log_x else ends


def _line(figure: Lines, index: int) -> dict[str, Any]:
    series = figure.series[index]
    colour = INK if series.ceiling else method_colour(series.style)
    dash = _CEILING if series.ceiling else _DASHES[series.dash % len(_DASHES)]
    return {
        "type": "scatter",
        "mode": "lines" if series.ceiling else "lines+markers",
        "name": safe(series.name),
        "x": figure.placed(index),
        "y": list(series.y),
        "error_y": reach(series.y, series.low, series.high),
        "text": [
            safe(f"{series.name}, {figure.told(x)}: {with_interval(y, low, high)}")
            for x, y, low, high in zip(series.x, series.y, series.low, series.high, strict=True)
        ],
        "hoverinfo": "text",
        "line": {"color": colour, "width": 2, "dash": dash},
        "marker": {"size": 8, "symbol": SYMBOLS[look(series.style).marker], "color": colour},
    }


def _level(series: Series, ends: list[float]) -> list[dict[str, Any]]:
    """A level over the whole width, its interval as a band."""
    name, level = safe(series.name), series.y[0]
    low, high = series.low[0], series.high[0]
    across = {"type": "scatter", "mode": "lines", "x": ends}
    dash = _CEILING if series.ceiling else _LEVELS[series.dash % len(_LEVELS)]
    line = {
        **across,
        "name": name,
        "y": [level, level],
        "text": [safe(f"{series.name}: {with_interval(level, low, high)}")] * 2,
        "hoverinfo": "text",
        "line": {"color": INK, "width": 2, "dash": dash},
    }
    # The band of the full cache alone: those of two levels would cover each other.
    if low is None or high is None or series.ceiling:
        return [line]
    edge = {**across, "hoverinfo": "skip", "showlegend": False, "line": {"width": 0}}
    band = {**edge, "y": [high, high], "fill": "tonexty", "fillcolor": "rgba(128, 128, 128, 0.18)"}
    return [{**edge, "y": [low, low]}, band, line]


def _names(figure: Lines, drawn: list[int], x_ends: list[float], y_ends: list[float], plot: int) -> dict[str, Any]:
    """Names right of the plot, each with a thin line to the end of its line; places are shares of the plot."""
    named = []
    for index in drawn:
        series = figure.series[index]
        last = max(place for place, y in enumerate(series.y) if y is not None)
        x = 1.0 if _is_level(series) else _share(figure.placed(index)[last], x_ends, log=figure.log_x)
        named.append((series, x, _share(series.y[last], y_ends, log=figure.log_y)))
    half = _TEXT / 2 / plot
    places = spread([y for *_, y in named], _TEXT / plot, half, 1 - half)
    annotations, shapes = [], []
    for (series, x, y), place in zip(named, places, strict=True):
        neutral = series.ceiling or series.reference
        colour = INK if neutral else method_colour(series.style)
        # The script writes the sign in the line's colour and the name, which is small, in that of text.
        sign = LEVEL_SIGN if neutral else SIGNS[look(series.style).marker]
        about = safe(f"{series.name}. {series.about}") if series.about else ""
        text = {"sign": sign, "text": safe(shorten(series.name)), "hovertext": about, "font": {"color": colour}}
        at = {"x": 1, "xref": "paper", "xanchor": "left", "xshift": 6, "y": place, "yref": "paper", "yanchor": "middle"}
        annotations.append({**text, **at, "showarrow": False, "align": "left"})
        ends = {"x0": x, "y0": y, "x1": 1, "y1": place, "xref": "paper", "yref": "paper"}
        shapes.append({"type": "line", **ends, "line": {"color": colour, "width": 1, "dash": "dot"}, "opacity": 0.7})
    longest = max((len(shorten(series.name)) for series, *_ in named), default=0)
    return {"annotations": annotations, "shapes": shapes, "right": round(30 + _CHARACTER * longest)}


def _share(value: Number, ends: list[float], *, log: bool) -> float:
    """Where a number stands between the ends of its axis."""
    if value is None or (log and value <= 0):
        return 0.0
    return ((math.log10(value) if log else value) - ends[0]) / (ends[1] - ends[0])
