"""Figures of what things cost: memory and latency of a benchmark, and how far estimators have come."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cokv_bench.budgets.checked_json import strict_loads
from cokv_bench.errors import RequestError
from cokv_bench.report.figures import Dot, Dots, Figure, Group, Lines, Number, Series
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


def estimators(paths: Sequence[Path]) -> Group | None:
    """How stable values are by the length of the ledger, and what budgets made of them find; None without files.

    Args:
        paths: files that `scripts/estimator_quality.py --json` wrote.

    Raises:
        RequestError: a file is not one of these.
    """
    if not paths:
        return None
    files = [_read(path) for path in paths]
    figures: list[Figure] = [
        _convergence(files, "half_split_correlation", "rank correlation of the ledger's halves"),
        _convergence(files, "standard_error", "median standard error"),
    ]
    figures += [_found(path, file) for path, file in zip(paths, files, strict=True)]
    about = "Values of heads by estimator and sampling, from ledgers of some lengths (pairs of coalitions)."
    return Group("estimators", "Estimators", about, tuple(figures))


def _read(path: Path) -> dict[str, Any]:
    try:
        file = strict_loads(path.read_text(encoding="utf-8"))
        checked = [(row["budgets"], row.get("estimator"), row.get("sampling")) for row in file["rows"]]
        file["pairs"] / len(checked), file["budget"] / 1
    except OSError as error:
        raise RequestError(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        raise RequestError(f"{path} is not a file of scripts/estimator_quality.py --json.") from None
    return dict(file)


def _convergence(files: Sequence[dict[str, Any]], what: str, told: str) -> Lines:
    points: dict[str, dict[float, float]] = {}
    for file in files:
        for row in file["rows"]:
            if row.get(what) is not None:
                points.setdefault(f"{row['estimator']}, {row['sampling']}", {})[float(file["pairs"])] = row[what]
    series = [
        Series(name, tuple(sorted(at)), tuple(at[x] for x in sorted(at)), (None,) * len(at), (None,) * len(at), style)
        for style, (name, at) in enumerate(points.items())
    ]
    about = "A point a file. Estimators whose errors cannot be told have none."
    return Lines(told[0].upper() + told[1:], about, "pairs of coalitions", told, tuple(series), log_x=True)


def _found(path: Path, file: dict[str, Any]) -> Dots:
    dots = [
        Dot(
            row["budgets"].removeprefix("cokv, "),
            row.get("found"),
            row.get("ci_low"),
            row.get("ci_high"),
            cells=("" if row.get("logprob") is None else f"{row['logprob']:.3f}", str(row.get("alpha", ""))),
            style=0 if "estimator" in row else 1,
        )
        for row in file["rows"]
    ]
    title = f"Needles found with the values of {file['pairs']} pairs, {path.name}"
    about = f"{file['budget']} tokens a head, {file.get('examples', '?')} test needles; 95% intervals."
    return Dots(title, about, "estimator and sampling", "percent found", tuple(dots), ("log-probability", "alpha"))
