"""A run's tables as they go into a page or a paper."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cokv_bench.files import write_text
from cokv_bench.report.gaps import closed
from cokv_bench.report.latex import latex
from cokv_bench.report.layout import lay_out
from cokv_bench.report.markdown import markdown
from cokv_bench.report.static import can_draw, save, save_beside
from cokv_bench.scores.tables import GAPS, Results, tabulate
from cokv_bench.scores.units import PERCENT, Unit

__all__ = ["write_formats", "write_results"]


def write_results(folder: Path, baselines: Sequence[str] = (), *, reference: str | None = None) -> Results:
    """Count a run's tables from its records and write them in all formats.

    Args:
        baselines, reference: as for `cokv_bench.scores.tables.tabulate`.

    Raises:
        RequestError: as for `tabulate`.
    """
    results = tabulate(folder, baselines, reference=reference)
    write_formats(folder, *results)
    return results


def write_formats(
    folder: Path, tables: Mapping[str, pd.DataFrame], configuration: Mapping[str, Any], unit: Unit = PERCENT
) -> None:
    """Write `table.md` and `table.tex`: the scores, a row a method and budget, and what each method kept.

    With gaps of several budgets, `gaps.png` as well, where a share of one is known and matplotlib is installed.

    Args:
        folder: of the run.
        tables: by file name, as `cokv_bench.scores.tables.count_tables` makes them.
        configuration: of the run, as in its `run.json`.
        unit: of its numbers.

    Raises:
        RequestError: the folder cannot be written.
    """
    layout = lay_out(tables, configuration, unit)
    write_text(folder / "table.md", markdown(layout))
    write_text(folder / "table.tex", latex(layout))
    if GAPS in tables and tables[GAPS]["budget"].nunique() > 1 and can_draw():
        figures = [each for each in closed(tables[GAPS], unit, configuration["methods"]) if each.has_points]
        if not figures:
            return
        if len(figures) == 1:
            save(figures[0], folder / "gaps.png")
        else:
            save_beside("Share closed of the gap", figures, folder / "gaps.png")
