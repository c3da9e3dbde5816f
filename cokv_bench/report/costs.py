"""Figures of what things cost: memory and latency of a benchmark."""

from collections.abc import Sequence

import pandas as pd

from cokv_bench.report.figures import Group, Lines, Number, Series
from cokv_bench.report.folders import Bench

_MIB = 2**20


def benchmarks(benches: Sequence[Bench]) -> Group | None:
    """Decoding time and memory by the length of the prompt, two figures a benchmark; None without benchmarks."""
    figures = [figure for bench in benches for figure in (_latency(bench), _memory(bench))]
    about = "Measured beside FullKV on the same machine and prompt; see docs/bench.md for how."
    return Group("costs", "Memory and latency", about, tuple(figures)) if figures else None


def _latency(bench: Bench) -> Lines:
    series = []
    for name, style, rows in _lines(bench.table):
        low, high = _column(rows, "decode_ms_low"), _column(rows, "decode_ms_high")
        series.append(Series(name, _lengths(rows), _column(rows, "decode_ms"), low, high, style))
        if "graph_ms" in rows and rows["graph_ms"].notna().any():
            graph, none = _column(rows, "graph_ms"), (None,) * len(rows)
            series.append(Series(f"{name}, as a CUDA graph", _lengths(rows), graph, none, none, style, dash=1))
    about = f"{_machine(bench)}. Median of the repeats, lowest to highest. Dashed: steps replayed as one CUDA graph."
    return Lines(
        f"Decoding time, {bench.name}", about, "prompt (tokens)", "ms a token", tuple(series), log_x=True, log_y=True
    )


def _memory(bench: Bench) -> Lines:
    series = []
    for name, style, rows in _lines(bench.table):
        none = (None,) * len(rows)
        for what, column, dash in (("peak", "peak_bytes", 0), ("KV kept", "kv_bytes_held", 1)):
            mebibytes = tuple(None if v is None else v / _MIB for v in _column(rows, column))
            series.append(Series(f"{name}, {what}", _lengths(rows), mebibytes, none, none, style, dash=dash))
    about = f"{_machine(bench)}. Peak beyond the model's own memory, and (dashed) the KV cache that is kept."
    return Lines(f"Memory, {bench.name}", about, "prompt (tokens)", "MiB", tuple(series), log_x=True, log_y=True)


def _lines(table: pd.DataFrame) -> list[tuple[str, int, pd.DataFrame]]:
    """Name, style and rows of each line, a method and budget."""
    found: list[tuple[str, int, pd.DataFrame]] = []
    for _, rows in table.groupby(["method", "budget"], sort=False, dropna=False):
        method, budget = rows["method"].iloc[0], rows["budget"].iloc[0]
        name = method if pd.isna(budget) else f"{method} {budget}"
        found.append((name, len(found), rows.sort_values("prompt_tokens")))
    return found


def _machine(bench: Bench) -> str:
    first = bench.table.iloc[0]
    device = bench.description.get("device", first["device"])
    return f"{first['model']}, {first['dtype']} on {device}"


def _lengths(rows: pd.DataFrame) -> tuple[float, ...]:
    return tuple(map(float, rows["prompt_tokens"]))


def _column(rows: pd.DataFrame, name: str) -> tuple[Number, ...]:
    if name not in rows:
        return (None,) * len(rows)
    return tuple(None if pd.isna(value) else float(value) for value in rows[name])
