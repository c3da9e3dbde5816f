"""Tables and figures in a terminal: layouts with their marks, maps as coloured blocks, costs as a table."""

from collections.abc import Iterable

from rich import box
from rich.columns import Columns
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from cokv_bench.report.figures import Figure, Group, Heat, Lines, Number, Panel, number
from cokv_bench.report.grids import Cell, Grid
from cokv_bench.report.layout import Layout
from cokv_bench.report.marks import BLIND_MARK
from cokv_bench.report.palettes import DIVERGING, SEQUENTIAL, colour, is_dark
from cokv_bench.scores.means import is_mean
from cokv_bench.scores.units import Unit

#: Maps of so many columns have their numbers in the cells.
_SPOKEN = 12
#: Cells are two characters wide where a line then is no wider than this.
_WIDTH = 72
#: From low to high, where a terminal has no colours.
_SHADES = " ░▒▓█"
#: Of a column of names, the least where some are that long.
_NAME = 16
# Wider than any table.
_UNBOUNDED = 10_000


def print_scores(console: Console, layout: Layout, unit: Unit) -> None:
    """Print the wide table with intervals and the tokens kept, and its notes.

    More tasks than the terminal is wide for are summed up.
    """
    whole = _scores(layout.scores, layout)
    width = Measurement.get(console, console.options.update(max_width=_UNBOUNDED), whole).maximum
    summed = width > console.width and layout.summary != layout.scores
    console.print(_scores(layout.summary, layout) if summed else whole)
    for note in (*layout.notes, *layout.legend):
        console.print(note, highlight=False, markup=False)
    if summed:
        tasks = sum(not is_mean(name.removesuffix(BLIND_MARK)) for name in layout.scores.header[2:])
        console.print(f"The {tasks} tasks one by one are in table.csv, table.md and {unit.file}.")


def print_tables(console: Console, layout: Layout, unit: Unit) -> None:
    """Print the table of scores, that of later questions, and the comparisons that sum a run up."""
    print_scores(console, layout, unit)
    for grid in (*layout.questions, *layout.comparisons):
        print_grid(console, grid)


def print_grid(console: Console, grid: Grid) -> None:
    """Print a table in which, where the terminal is narrow, names and verdicts are folded and no number is cut."""
    first, *others = grid.header
    # Without lines between the columns there is room for names.
    table = Table(title=Text(grid.caption), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    names = [row[0].text for section in grid.sections for row in section]
    table.add_column(first, overflow="fold", min_width=min(_NAME, max(map(len, (first, *names)))))
    for name in others:
        # A column of words has no name.
        table.add_column(name, justify="right" if name else "left", no_wrap=bool(name), overflow="fold")
    _fill(table, grid)
    console.print(table)


def _scores(grid: Grid, layout: Layout) -> Table:
    """The table of scores with what each method kept."""
    table = Table(title=Text(grid.caption), title_justify="left")
    for name in grid.header[:2]:
        table.add_column(name, justify="left" if name == grid.header[0] else "right", no_wrap=True)
    for name in grid.header[2:]:
        table.add_column(Text(name), justify="right", overflow="fold")
    table.add_column("tokens\nper head", justify="right", overflow="fold")
    beside = zip(grid.sections, layout.kept, strict=True)
    sections = tuple(tuple((*row, kept) for row, kept in zip(*pair, strict=True)) for pair in beside)
    _fill(table, Grid(grid.caption, grid.header, sections))
    return table


def _fill(table: Table, grid: Grid) -> None:
    for section in grid.sections:
        table.add_section()
        for row in section:
            table.add_row(*map(_marked, row))


def _marked(cell: Cell) -> Text:
    text = Text(cell.text, style="bold" if cell.bold else "")
    marked = Text().append_text(text).append(cell.marks)
    return marked.append(f" {cell.interval}", style="dim") if cell.interval else marked


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
                table.add_column(figure.told(tick), justify="right")
            for series in figure.series:
                at = dict(zip(series.x, series.y, strict=True))
                level = series.y[0] if series.reference else None
                table.add_row(Text(series.name), *(number(at.get(tick, level)) for tick in figure.ticks))
            console.print(table)
