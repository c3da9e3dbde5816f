"""The papers' two figures as one: latency and memory against the length of the prompt."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: What draws; without it there are the tables alone.
PACKAGE = "matplotlib"


def draw(table: pd.DataFrame, path: Path) -> bool:
    """Draw decoding time and memory by prompt length, a line a method and budget.

    Args:
        table: rows of bench.csv.
        path: PNG, SVG or PDF.

    Returns:
        Whether it was drawn: False, and no file, where matplotlib is not installed.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        return False
    # Not pyplot: it would choose a display, and keep every figure.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    latency, memory = figure.subplots(1, 2)
    lines = table.sort_values("prompt_tokens", kind="stable").groupby(["method", "budget"], sort=False, dropna=False)
    for index, (_, rows) in enumerate(lines):
        lengths, colour = rows["prompt_tokens"], f"C{index % 10}"
        budget = rows["budget"].iloc[0]
        label = rows["method"].iloc[0] + ("" if pd.isna(budget) else f" {budget}")
        latency.plot(lengths, rows["decode_ms"], "o-", color=colour, label=label)
        if rows["graph_ms"].notna().any():
            latency.plot(lengths, rows["graph_ms"], "^:", color=colour, label=f"{label}, as a CUDA graph")
        latency.fill_between(lengths, rows["decode_ms_low"], rows["decode_ms_high"], color=colour, alpha=0.15)
        memory.plot(lengths, _mebibytes(rows["peak_bytes"]), "o-", color=colour)
        memory.plot(lengths, _mebibytes(rows["kv_bytes_held"]), "s--", color=colour)
    first = table.iloc[0]
    latency.set(title="Decoding, median and range", ylabel="ms a token", ylim=(0, None))
    memory.set(title="Peak beyond the model (solid), KV kept (dashed)", ylabel="MiB", yscale="log")
    for panel in (latency, memory):
        panel.set(xlabel="prompt tokens")
        panel.grid(alpha=0.3)
    latency.legend()
    figure.suptitle(f"{first['model']}, {first['dtype']} on {first['device']}, rows: {first['rows']}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return True


def _mebibytes(column: pd.Series) -> NDArray[np.float64]:
    """NaN where nothing was counted: the line has a gap there."""
    return column.to_numpy(np.float64, na_value=np.nan) / 2**20
