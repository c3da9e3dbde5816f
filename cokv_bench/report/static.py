"""Figures as files, by matplotlib: PNG, SVG and PDF."""

import importlib.util
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cokv_bench.errors import RequestError
from cokv_bench.files import make_folder
from cokv_bench.report.figures import Dots, Figure, Heat, Lines, Number, Series, number
from cokv_bench.report.labels import shorten, spread
from cokv_bench.report.palettes import DIVERGING, QUALITATIVE, SEQUENTIAL, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

ENDINGS = ("png", "svg", "pdf")
_MARKERS = "os^DvP*"
_DASHES = ("-", "--", ":", "-.")
#: Of the full cache and of ceilings, and how a ceiling's line is drawn.
_NEUTRAL, _CEILING = "0.3", (0, (8, 3))
#: Of what cannot tell methods apart.
_FAINT = "0.6"
#: Inches of a name at the end of a line.
_NAME = 0.14
_COLUMNS = 4


#: What draws; without it there are the tables alone.
PACKAGE = "matplotlib"


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec(PACKAGE) is not None


def check_drawing() -> None:
    """Raises `RequestError` with the command that fixes it where matplotlib is not installed."""
    if not can_draw():
        raise RequestError("Figures as files need matplotlib, which is not installed: pip install matplotlib")


def draw_all(
    figures: Sequence[tuple[str, Figure]],
    folder: Path,
    progress: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> None:
    """Write each figure as `NAME.png`, `NAME.svg` and `NAME.pdf`.

    Args:
        figures: with their names.
        folder: made where it is not there.
        progress: called with figures done, figures in all, and the one at hand.

    Raises:
        RequestError: matplotlib is not installed, or the folder cannot be written.
    """
    check_drawing()
    make_folder(folder)
    for done, (name, figure) in enumerate(figures):
        progress(done, len(figures), name)
        save(figure, *(folder / f"{name}.{ending}" for ending in ENDINGS))
    progress(len(figures), len(figures), "done")


def save(figure: Figure, *paths: Path) -> None:
    """Draw a figure once and write it to files whose endings are of `ENDINGS`.

    Raises:
        RequestError: a file cannot be written.
    """
    _write(draw(figure), paths)


def save_beside(title: str, figures: Sequence[Lines], path: Path) -> None:
    """Draw lines side by side and write them to one file.

    Raises:
        RequestError: the file cannot be written.
    """
    canvas, axes = _canvas(6.5 * len(figures), max(map(_height, figures)), len(figures))
    for axis, figure in zip(axes, figures, strict=True):
        _lines(axis, figure)
        axis.set_title(_plain(figure.title), fontsize=9)
    canvas.suptitle(_plain(title), fontsize=11)
    _write(canvas, [path])


def _write(canvas: "Canvas", paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            if path.suffix == ".png":
                _write_png(canvas, path)
            else:
                canvas.savefig(path, dpi=150)
        except OSError as error:
            raise RequestError(f"{path} cannot be written ({error.strerror}).") from error


def _write_png(canvas: "Canvas", path: Path) -> None:
    """With 256 colours, which are enough for figures and take a third of the bytes."""
    from PIL import Image

    drawn = BytesIO()
    canvas.savefig(drawn, format="png", dpi=150)
    Image.open(drawn).convert("RGB").quantize(256).save(path, format="PNG", optimize=True)


def draw(figure: Figure) -> "Canvas":
    """A matplotlib figure, which no display shows and nothing keeps."""
    if isinstance(figure, Lines):
        canvas, (axis,) = _canvas(7.5, _height(figure), 1)
        _lines(axis, figure)
    elif isinstance(figure, Dots):
        canvas, (axis,) = _canvas(7.5, 1.2 + 0.22 * len(figure.dots), 1)
        _dots(axis, figure)
    else:
        canvas = _heat(figure)
    canvas.suptitle(_plain(figure.title), fontsize=11)
    return canvas


def _canvas(width: float, height: float, panels: int, across: int = _COLUMNS) -> "tuple[Canvas, list[Axes]]":
    # Not pyplot: it would choose a display, and keep every figure.
    from matplotlib.figure import Figure as Canvas

    columns = min(panels, across)
    canvas = Canvas(figsize=(width, height), layout="constrained")
    axes = canvas.subplots(-(-panels // columns), columns, squeeze=False).ravel().tolist()
    for axis in axes[panels:]:
        axis.remove()
    return canvas, axes[:panels]


def _height(figure: Lines) -> float:
    """Inches, with room for the names of all lines."""
    return max(4.2, 1.0 + _NAME * len(figure.series))


def _lines(axis: "Axes", figure: Lines) -> None:
    for index, series in enumerate(figure.series):
        ceiling = series.ceiling and not series.reference
        if series.level:
            dash: Any = _CEILING if ceiling else _DASHES[1 + series.dash % (len(_DASHES) - 1)]
            axis.axhline(_nan(series.y[0]), color=_NEUTRAL, linestyle=dash)
            if series.reference and series.low[0] is not None and series.high[0] is not None:
                axis.axhspan(series.low[0], series.high[0], color=_NEUTRAL, alpha=0.1, linewidth=0)
            continue
        axis.errorbar(
            figure.placed(index),
            [_nan(y) for y in series.y],
            yerr=_reach(series.y, series.low, series.high),
            color=_colour(series),
            marker="" if ceiling else _MARKERS[look(series.style).marker],
            markersize=4,
            linestyle=_CEILING if ceiling else _DASHES[series.dash % len(_DASHES)],
            capsize=2,
            linewidth=1.2,
        )
    axis.set(xlabel=figure.x_label, ylabel=figure.y_label)
    if figure.log_x:
        axis.set_xscale("log", base=2)
        if figure.ticks and not figure.has_points:
            # Without a point the limits would be around 0, which has no logarithm.
            axis.set_xlim(figure.ticks[0] / 2, figure.ticks[-1] * 2)
        axis.set_xticks(figure.ticks, [f"{tick:g}{figure.x_sign}" for tick in figure.ticks])
        axis.minorticks_off()
    # A logarithm of nothing is an error of matplotlib's.
    if figure.log_y and figure.decades:
        axis.set_yscale("log")
        low, high = axis.get_ylim()
        marks = [mark for mark in figure.decades if low <= mark <= high]
        axis.set_yticks(marks, [number(mark) for mark in marks])
        axis.minorticks_off()
    axis.grid(alpha=0.3)
    _name(axis, figure)


def _name(axis: "Axes", figure: Lines) -> None:
    """Write the names of lines at their ends, right of the plot; its limits are those of all that is drawn."""
    axis.set(xlim=axis.get_xlim(), ylim=axis.get_ylim())
    to_share = axis.transScale + axis.transLimits
    named = []
    for index, series in enumerate(figure.series):
        known = [place for place, y in enumerate(series.y) if y is not None]
        if known:
            x, y = to_share.transform((figure.placed(index)[known[-1]] or 1.0, _nan(series.y[known[-1]])))
            named.append((series, 1.0 if series.level else x, y))
    gap = _NAME / (0.8 * _height(figure))
    places = spread([y for *_, y in named], gap, 0.0, 1.0)
    for (series, x, y), place in zip(named, places, strict=True):
        colour = _colour(series)
        axis.plot([x, 1], [y, place], color=colour, linewidth=0.6, linestyle=":", transform=axis.transAxes)
        axis.text(
            *(1.01, place),
            _plain(shorten(series.name)),
            color=colour,
            fontsize=7,
            va="center",
            transform=axis.transAxes,
        )


def _colour(series: Series) -> str:
    return _NEUTRAL if series.reference or series.ceiling else QUALITATIVE[look(series.style).colour]


def _dots(axis: "Axes", figure: Dots) -> None:
    for place, dot in enumerate(figure.dots):
        colour = _FAINT if dot.blind else QUALITATIVE[look(dot.style).colour]
        axis.errorbar(
            [_nan(dot.value)],
            [place],
            xerr=_reach((dot.value,), (dot.low,), (dot.high,)),
            color=colour,
            marker=_MARKERS[look(dot.style).marker],
            markerfacecolor="white" if dot.faint else colour,
            markersize=5,
            capsize=2,
        )
    axis.set_yticks(range(len(figure.dots)), [_plain(dot.label) for dot in figure.dots], fontsize=7)
    axis.set(xlabel=_plain(figure.x_label), ylim=(len(figure.dots) - 0.5, -0.5))
    axis.grid(alpha=0.3, axis="x")
    if figure.zero:
        axis.axvline(0, color="0.3", linewidth=1)


def _heat(figure: Heat) -> "Canvas":
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize

    rows, columns = len(figure.y), len(figure.x)
    width, height = max(2.2, 0.13 * columns), max(1.1, 0.16 * rows + 0.6)
    # Wide maps of the same layers are read one below the other.
    across = 1 if width > 2 * height else min(len(figure.panels), _COLUMNS)
    down = -(-len(figure.panels) // across)
    canvas, axes = _canvas(1.5 + width * across, 1 + height * down, len(figure.panels), across)
    colours = LinearSegmentedColormap.from_list("ours", DIVERGING if figure.diverging else SEQUENTIAL)
    norm: Any = (LogNorm if figure.log else Normalize)(figure.low, figure.high)
    for axis, panel in zip(axes, figure.panels, strict=True):
        cells = np.array([[_nan(value) for value in row] for row in panel.values])
        axis.imshow(cells, aspect="auto", cmap=colours, norm=norm, interpolation="nearest")
        axis.set_title(_plain(panel.title), fontsize=8)
        for labels, place in ((figure.x, axis.set_xticks), (figure.y, axis.set_yticks)):
            step = -(-len(labels) // 8)
            place(range(0, len(labels), step), [_plain(label) for label in labels[::step]], fontsize=6)
        axis.set_xlabel(figure.x_label, fontsize=7)
        axis.set_ylabel(figure.y_label, fontsize=7)
    bar = canvas.colorbar(ScalarMappable(norm, colours), ax=axes)
    bar.set_label(figure.unit, fontsize=8)
    return canvas


def _reach(middle: tuple[Number, ...], low: tuple[Number, ...], high: tuple[Number, ...]) -> list[list[float]] | None:
    """How far intervals reach below and above, none where they are not known."""
    if all(end is None for end in (*low, *high)):
        return None
    known = [
        (max(m - a, 0.0), max(b - m, 0.0)) if None not in (m, a, b) else (0.0, 0.0)  # type: ignore[operator]
        for m, a, b in zip(middle, low, high, strict=True)
    ]
    return [[below for below, _ in known], [above for _, above in known]]


def _nan(value: Number) -> float:
    return float("nan") if value is None else value


def _plain(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")
