"""Figures of what things cost: memory and latency of a benchmark."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cokv_bench.report.figures import Group, Lines, Number, Series, numbers
from cokv_bench.report.folders import Bench

_MIB = 2**20


def benchmarks(benches: Sequence[Bench]) -> Group | None:
    """Decoding time and memory by the length of the prompt, two figures a benchmark; None without benchmarks."""
    figures = [
        figure
        for bench in benches
        for figure in (
            _latency(bench.table, bench.name, _machine(bench.table, bench.description)),
            _memory(bench.table, bench.name, _machine(bench.table, bench.description)),
        )
    ]
    about = "Measured alongside FullKV on the same machine and prompt; docs/bench.md says how."
    return Group("costs", "Memory and latency", about, tuple(figures)) if figures else None


def bench_lines(table: pd.DataFrame) -> tuple[str, list[Lines]]:
    """The same of one benchmark's rows of bench.csv, to stand side by side below the title that comes with them."""
    machine, rows = _machine(table, {}), table["rows"].iloc[0]
    return f"{machine}, rows: {rows}", [
        _latency(table, "median and range", machine),
        _memory(table, "dashed: KV kept", machine),
    ]


def _latency(table: pd.DataFrame, name: str, machine: str) -> Lines:
    series = []
    for line, style, rows in _lines(table):
        low, high = _column(rows, "decode_ms_low"), _column(rows, "decode_ms_high")
        series.append(Series(line, _lengths(rows), _column(rows, "decode_ms"), low, high, style))
        if "graph_ms" in rows and rows["graph_ms"].notna().any():
            graph = _column(rows, "graph_ms")
            series.append(Series.plain(f"{line}, as a CUDA graph", _lengths(rows), graph, style=style, dash=1))
    about = f"{machine}. Median of the repeats, lowest to highest. Dashed: steps replayed as one CUDA graph."
    return Lines(
        f"Decoding time, {name}", about, "prompt (tokens)", "ms a token", tuple(series), log_x=True, log_y=True
    )


def _memory(table: pd.DataFrame, name: str, machine: str) -> Lines:
    series = []
    for line, style, rows in _lines(table):
        for what, column, dash in (("peak", "peak_bytes", 0), ("KV kept", "kv_bytes_held", 1)):
            mebibytes = (rows[column] / _MIB).astype(float)
            series.append(Series.plain(f"{line}, {what}", _lengths(rows), mebibytes, style=style, dash=dash))
    about = f"{machine}. Peak beyond the model's own memory, and (dashed) the KV cache that is kept."
    return Lines(f"Memory, {name}", about, "prompt (tokens)", "MiB", tuple(series), log_x=True, log_y=True)


def _lines(table: pd.DataFrame) -> list[tuple[str, int, pd.DataFrame]]:
    """Name, style and rows of each line, a method and budget."""
    found: list[tuple[str, int, pd.DataFrame]] = []
    for _, rows in table.groupby(["method", "budget"], sort=False, dropna=False):
        method, budget = rows["method"].iloc[0], rows["budget"].iloc[0]
        name = method if pd.isna(budget) else f"{method} {budget}"
        found.append((name, len(found), rows.sort_values("prompt_tokens")))
    return found


def _machine(table: pd.DataFrame, description: Mapping[str, Any]) -> str:
    first = table.iloc[0]
    device = description.get("device", first["device"])
    return f"{first['model']}, {first['dtype']} on {device}"


def _lengths(rows: pd.DataFrame) -> tuple[float, ...]:
    return tuple(map(float, rows["prompt_tokens"]))


def _column(rows: pd.DataFrame, name: str) -> tuple[Number, ...]:
    return numbers(rows[name].astype(float)) if name in rows else (None,) * len(rows)
