"""Tables of a run as GitHub's Markdown."""

import re

from cokv_bench.report.grids import Cell, Grid
from cokv_bench.report.layout import Layout

#: ASCII characters that Markdown, or HTML and formulas inside it, may read as markup.
_SPECIAL = re.compile(r"([\\`|*_<>\[\]~$&])")


def escape(text: str) -> str:
    """Text that a Markdown table shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def markdown(layout: Layout) -> str:
    """All tables with the notes under them."""
    notes = map(escape, (*layout.notes, *layout.legend))
    grids = (layout.scores, *layout.primary, *layout.questions, *layout.costs)
    return "\n\n".join([*map(_grid, grids), *notes]) + "\n"


def _grid(grid: Grid) -> str:
    lines = [
        [escape(name) for name in grid.header],
        [":--", *("--:" for _ in grid.header[1:])],
        *([_cell(cell) for cell in row] for section in grid.sections for row in section),
    ]
    return f"**{escape(grid.caption)}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return (f"**{text}**" if cell.bold else text) + cell.marks
