"""From measurements to the rows of `bench.csv`."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import pandas as pd
import torch

from cokv_bench.bench.measure import Reading
from cokv_bench.bench.plan import BenchRequest
from cokv_bench.budget import Budget, column_type, tokens_of
from cokv_bench.models import Model
from cokv_bench.runs.plan import Variant

NO_ROOM = "out of memory"
_LABELS = ("model", "device", "dtype", "threads", "method", "budget", "rows", "prompt_tokens", "new_tokens", "repeats")
_TIMES = (
    "prefill_s",
    "ttft_s",
    "decode_ms",
    "decode_ms_low",
    "decode_ms_high",
    "decode_vs_full",
    "graph_ms",
    "graph_vs_full",
    "prefill_vs_full",
)
_BYTES = ("peak_bytes", "after_bytes", "kv_bytes_held", "kv_bytes_ideal", "kv_bytes_reserved")
COLUMNS = (*_LABELS, *_TIMES, *_BYTES, "note")


def ideal_bytes(model: Model, tokens: int, budget: Budget | None, rows: int) -> int:
    """Bytes of the keys and values that a budget (None: all) leaves of prompts, all rows."""
    kept = tokens if budget is None else min(tokens_of(budget, tokens), tokens)
    return rows * kept * model.layers * model.kv_heads * model.bytes_per_token


def bench_table(
    model: Model,
    request: BenchRequest,
    readings: Mapping[tuple[int, Variant], Sequence[Reading] | None],
) -> pd.DataFrame:
    """A row a prompt length, method and budget: medians over the repeats, and ratios to FullKV at that length.

    Args:
        readings: (prompt tokens, variant) -> its measurements so far; None where it did not fit the device.

    Returns:
        The columns of docs/bench.md; empty cells where nothing was measured.
    """
    rows = []
    for (tokens, variant), measured in readings.items():
        if measured is not None and not measured:
            continue
        full = next((taken for (length, of), taken in readings.items() if length == tokens and of.budget is None), None)
        rows.append(
            {
                "model": model.name,
                "device": model.device.type,
                "dtype": str(model.network.dtype).removeprefix("torch."),
                "threads": torch.get_num_threads(),
                "method": variant.method,
                "budget": variant.budget,
                "rows": request.rows,
                "prompt_tokens": tokens,
                "new_tokens": request.new_tokens,
                "repeats": len(measured or ()),
                "kv_bytes_ideal": ideal_bytes(model, tokens, variant.budget, request.rows),
                "note": NO_ROOM if measured is None else None,
                **(_medians(measured, full) if measured else {}),
            }
        )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    # Of a column without any number pandas would make one of objects.
    types = {**dict.fromkeys(_BYTES, "Int64"), **dict.fromkeys(_TIMES, "float64")}
    return frame.astype({"budget": column_type(frame["budget"]), **types})


def _medians(measured: Sequence[Reading], full: Sequence[Reading] | None) -> dict[str, Any]:
    decode, prefill = _decode(measured), _prefill(measured)
    return {
        "prefill_s": prefill,
        "ttft_s": median(reading.ttft_s for reading in measured),
        "decode_ms": decode,
        "decode_ms_low": min(reading.decode_ms for reading in measured),
        "decode_ms_high": max(reading.decode_ms for reading in measured),
        "decode_vs_full": _decode(full) / decode if full else None,
        "graph_ms": _graph(measured),
        "graph_vs_full": _ratio(_graph(full or ()), _graph(measured)),
        "prefill_vs_full": _prefill(full) / prefill if full else None,
        "peak_bytes": _middle(measured, lambda reading: reading.peak_bytes),
        "after_bytes": _middle(measured, lambda reading: reading.after_bytes),
        "kv_bytes_held": measured[0].kv_held,
        "kv_bytes_reserved": measured[0].kv_reserved,
    }


def _decode(measured: Sequence[Reading]) -> float:
    return median(reading.decode_ms for reading in measured)


def _graph(measured: Sequence[Reading]) -> float | None:
    times = [reading.graph_ms for reading in measured if reading.graph_ms is not None]
    return median(times) if times else None


def _ratio(full: float | None, other: float | None) -> float | None:
    return None if full is None or other is None else full / other


def _prefill(measured: Sequence[Reading]) -> float:
    return median(reading.prefill_s for reading in measured)


def _middle(measured: Sequence[Reading], count: Callable[[Reading], int | None]) -> int | None:
    """The median of what was counted, in whole bytes."""
    counted = [number for number in map(count, measured) if number is not None]
    return int(median(counted)) if counted else None
