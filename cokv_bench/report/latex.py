"""Tables of a run as LaTeX with booktabs."""

from cokv_bench.report.grids import Cell, Grid
from cokv_bench.report.layout import Layout

_DIFFERS, _UNCOMPARED = r"\textsuperscript{\dag}", r"\textsuperscript{\ddag}"
_ESCAPES = str.maketrans(
    {
        **{character: f"\\{character}" for character in "_%&#${}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        # After the end of a row these two would be read as its options.
        "[": "{[}",
        "*": "{*}",
        "–": "--",
    }
)


def escape(text: str) -> str:
    """Text that LaTeX prints as it is, on one line."""
    return " ".join(text.split()).translate(_ESCAPES)


def latex(layout: Layout) -> str:
    """All tables as `table` environments; the meaning of marks stands under the first, the notes under the others."""
    legend = [
        f"{mark} {escape(text)}."
        for mark, text in ((_DIFFERS, layout.differs), (_UNCOMPARED, layout.uncompared))
        if text
    ]
    notes = [escape(note) for note in layout.notes]
    primary = [_grid(grid, []) for grid in layout.primary]
    costs = [_grid(grid, notes) for grid in layout.costs]
    questions = [_grid(grid, []) for grid in layout.questions]
    return "\n".join(["% Needs \\usepackage{booktabs}.", _grid(layout.scores, legend), *primary, *questions, *costs])


def _grid(grid: Grid, notes: list[str]) -> str:
    sections = ["".join(_row([_cell(cell) for cell in row]) for row in section) for section in grid.sections]
    below = "".join(f"\\par\\smallskip{{\\footnotesize {note}\\par}}\n" for note in notes)
    return (
        "\\begin{table}\n\\centering\n\\small\n\\setlength{\\tabcolsep}{3pt}\n"
        f"\\caption{{{escape(grid.caption)}}}\n"
        f"\\begin{{tabular}}{{l{'r' * (len(grid.header) - 1)}}}\n\\toprule\n"
        f"{_row([escape(name) for name in grid.header])}\\midrule\n"
        + "\\midrule\n".join(sections)
        + f"\\bottomrule\n\\end{{tabular}}\n{below}\\end{{table}}\n"
    )


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + " \\\\\n"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.bold:
        text = f"\\textbf{{{text}}}"
    return text + (_DIFFERS if cell.differs else "") + (_UNCOMPARED if cell.uncompared else "")
