"""A run's tables as they go into a page or a paper."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cokv_bench.files import write_text
from cokv_bench.report.latex import latex
from cokv_bench.report.layout import lay_out
from cokv_bench.report.markdown import markdown

__all__ = ["write_formats"]


def write_formats(folder: Path, tables: Mapping[str, pd.DataFrame], configuration: Mapping[str, Any]) -> None:
    """Write `table.md` and `table.tex`: the scores, a row a method and budget, and what each method kept.

    Args:
        folder: of the run.
        tables: what `cokv_bench.scores.tables.write_tables` returned.
        configuration: of the run, as in its `run.json`.

    Raises:
        RequestError: the folder cannot be written.
    """
    layout = lay_out(tables, configuration)
    write_text(folder / "table.md", markdown(layout))
    write_text(folder / "table.tex", latex(layout))
