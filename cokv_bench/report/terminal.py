"""Figures in a terminal: maps as coloured blocks, costs as a table."""

from collections.abc import Iterable

from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cokv_bench.report.figures import Figure, Group, Heat, Lines, Number, Panel, number
from cokv_bench.report.palettes import DIVERGING, SEQUENTIAL, colour, is_dark

#: Maps of so many columns have their numbers in the cells.
_SPOKEN = 12
#: Cells are two characters wide where a line then is no wider than this.
_WIDTH = 72
#: From low to high, where a terminal has no colours.
_SHADES = " ░▒▓█"


def print_maps(console: Console, group: Group) -> None:
    """Print the heat maps of a group, one below the other."""
    for figure in group.figures:
        if isinstance(figure, Heat):
            print_heat(console, figure)


def print_heat(console: Console, figure: Heat) -> None:
    """Print a heat map: its panels in blocks, rows labelled, with the scale below."""
    console.print(Text(figure.title, style="bold"))
    spoken = len(figure.x) <= _SPOKEN
    width = max(6, *(len(label) + 1 for label in figure.x)) if spoken else 2 if 2 * len(figure.x) <= _WIDTH else 1
    console.print(Text(f"{figure.y_label} by {figure.x_label}", style="dim"))
    panels = [_panel(console, figure, panel, width, spoken=spoken) for panel in figure.panels]
    console.print(Columns(panels, padding=(1, 3)))
    console.print(_scale(console, figure))
    console.print()


def _panel(console: Console, figure: Heat, panel: Panel, width: int, *, spoken: bool) -> Text:
    margin = max(len(label) for label in figure.y)
    block = Text(no_wrap=True)
    block.append(f"{panel.title}\n")
    for label, row in zip(figure.y, panel.values, strict=True):
        block.append(f"{label:>{margin}} ")
        for value in row:
            block.append_text(_cell(console, figure, value, width, spoken))
        block.append("\n")
    return block.append(" " * (margin + 1) + _axis(figure.x, width, spoken), style="dim")


def _cell(console: Console, figure: Heat, value: Number, width: int, spoken: bool) -> Text:
    if value is None:
        return Text("·".center(width))
    share = figure.share(value)
    if console.color_system is None:
        shade = _SHADES[min(int(share * len(_SHADES)), len(_SHADES) - 1)]
        return Text(f"{value:.3g}".center(width) if spoken else shade * width)
    rgb = colour(share, DIVERGING if figure.diverging else SEQUENTIAL)
    style = f"{'bright_white' if is_dark(rgb) else 'black'} on rgb({rgb[0]},{rgb[1]},{rgb[2]})"
    return Text(f"{value:.3g}".center(width) if spoken else " " * width, style=style)


def _axis(labels: tuple[str, ...], width: int, spoken: bool) -> str:
    """Labels below the columns: all of them, or every tenth."""
    if spoken:
        return "".join(label.center(width) for label in labels)
    return "".join(label.ljust(10 * width) for label in labels[::10])


def _scale(console: Console, figure: Heat) -> Text:
    shares = [step / 15 for step in range(16)]
    bar = Text(f"{figure.unit}: {figure.at(0):.3g} ")
    for share in shares:
        bar.append_text(_cell(console, figure, figure.at(share), 1, spoken=False))
    return bar.append(f" {figure.at(1):.3g}" + (" (logarithmic)" if figure.log else ""))


def print_lines(console: Console, figures: Iterable[Figure]) -> None:
    """Print lines as tables: a row a line, a column an x. Other figures are passed over."""
    for figure in figures:
        if isinstance(figure, Lines):
            table = Table(title=Text(f"{figure.title}: {figure.y_label}"), title_justify="left")
            table.add_column(figure.x_label)
            for tick in figure.ticks:
                table.add_column(number(tick), justify="right")
            for series in figure.series:
                at = dict(zip(series.x, series.y, strict=True))
                level = series.y[0] if series.reference else None
                table.add_row(Text(series.name), *(number(at.get(tick, level)) for tick in figure.ticks))
            console.print(table)
