"""What a report reads of a folder: a run of `eval`, or a benchmark of memory and latency."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cokv_bench.errors import RequestError
from cokv_bench.log import whole_lines
from cokv_bench.runs.comparisons import choose_baseline, comparisons_table
from cokv_bench.runs.examples import EXAMPLES
from cokv_bench.runs.journal import read_records, read_run
from cokv_bench.runs.means import is_mean
from cokv_bench.runs.tables import needle_table, scores_table, wide_table

BENCH = "bench.csv"
_TYPES: dict[Any, Any] = {"budget": "Int64", "within_noise": "boolean"}
_TABLES = ("scores.csv", "table.csv", "comparisons.csv", "needle.csv")


@dataclass(frozen=True)
class Run:
    """A run of `eval`.

    Attributes:
        name: short, of this run alone among those of a report.
        description: its `run.json`.
        records: one an example, method and budget.
        tables: by file name, as `cokv_bench.runs.write_tables` returns them.
        examples: (task, example) -> question and reference answers, where the run has kept them.
    """

    name: str
    folder: Path
    description: dict[str, Any]
    records: list[dict[str, Any]]
    tables: dict[str, pd.DataFrame]
    examples: dict[tuple[str, str], tuple[str, list[str]]]

    @property
    def configuration(self) -> dict[str, Any]:
        configuration: dict[str, Any] = self.description["configuration"]
        return configuration


@dataclass(frozen=True)
class Bench:
    """A benchmark: the rows of bench.csv, and its `run.json`, empty where there is none."""

    name: str
    folder: Path
    description: dict[str, Any]
    table: pd.DataFrame


def read_folders(folders: Sequence[Path]) -> tuple[list[Run], list[Bench]]:
    """Read what a report is about.

    Raises:
        RequestError: a folder is neither a run with records nor a benchmark, or a file in it is damaged.
    """
    runs: list[Run] = []
    benches: list[Bench] = []
    names = _names(folders)
    for name, folder in zip(names, folders, strict=True):
        if (folder / BENCH).is_file():
            benches.append(_read_bench(name, folder))
        else:
            runs.append(_read_run(name, folder))
    return runs, benches


def _names(folders: Sequence[Path]) -> list[str]:
    """As many last parts of the paths as tell them apart. Raises `RequestError` where a folder is named twice."""
    parts = [folder.resolve().parts for folder in folders]
    for path, folder in zip(parts, folders, strict=True):
        if parts.count(path) > 1:
            raise RequestError(f"{folder} is named twice; name each run once.")
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(path[-count:]) for path in parts]
        if len(set(names)) == len(names):
            break
    return names


def _read_bench(name: str, folder: Path) -> Bench:
    path = folder / BENCH
    try:
        table = pd.read_csv(path)
        table[["model", "device", "dtype", "method", "prompt_tokens", "decode_ms", "peak_bytes", "kv_bytes_held"]]
        table = table.astype({"budget": "Int64", "decode_ms": float, "peak_bytes": float, "kv_bytes_held": float})
        description = folder / "run.json"
        told = json.loads(description.read_text(encoding="utf-8")) if description.is_file() else {}
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(f"{path} or its run.json is damaged ({error}); run `cokv-bench bench` again.") from None
    if table.empty:
        raise RequestError(f"{path} holds no measurement yet; run `cokv-bench bench` again.")
    return Bench(name, folder, told, table)


def _read_run(name: str, folder: Path) -> Run:
    description = read_run(folder)
    records = read_records(folder)
    if not records:
        raise RequestError(f"{folder} holds no records yet, so there is nothing to report.")
    if any("prediction" not in record for record in records):
        raise RequestError(f"The records of {folder} have no answers, so they are not of `cokv-bench eval`.")
    try:
        tables = _read_tables(folder, len(records)) or _make_tables(records, description["configuration"])
    except (KeyError, TypeError) as error:
        raise RequestError(f"{folder} is damaged: its run.json or a record lacks {error}; restore it.") from None
    return Run(name, folder, description, records, tables, _read_examples(folder))


def _read_tables(folder: Path, records: int) -> dict[str, pd.DataFrame] | None:
    """The tables that `eval` wrote, if they are of these records; testing all comparisons again would take long."""
    try:
        tables = {name: pd.read_csv(folder / name, dtype=_TYPES) for name in _TABLES if (folder / name).is_file()}
        scores = tables["scores.csv"]
        counted = scores["n"][[not is_mean(task) for task in scores["task"]]].sum()
        return tables if counted == records and "table.csv" in tables else None
    except (ValueError, KeyError):
        return None


def _make_tables(records: list[dict[str, Any]], configuration: dict[str, Any]) -> dict[str, pd.DataFrame]:
    # No answers: no table needs them, and pandas takes no lone surrogates of damaged tokens.
    numbers = [{name: value for name, value in record.items() if name != "prediction"} for record in records]
    frame = pd.DataFrame(numbers).astype({"budget": "Int64"})
    tables = {"scores.csv": scores_table(frame, configuration), "table.csv": wide_table(frame, configuration)}
    baseline = choose_baseline(configuration["methods"], None)
    needles = frame[frame["task"] == "needle"]
    further = {
        "comparisons.csv": comparisons_table(frame, configuration, baseline) if baseline else pd.DataFrame(),
        "needle.csv": needle_table(needles) if len(needles) else needles,
    }
    return tables | {name: table for name, table in further.items() if len(table)}


def _read_examples(folder: Path) -> dict[tuple[str, str], tuple[str, list[str]]]:
    path = folder / EXAMPLES
    if not path.is_file():
        return {}
    examples = {}
    for number, line in enumerate(whole_lines(path).split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
            examples[row["task"], row["example"]] = (str(row["question"] or ""), [str(a) for a in row["answers"]])
        except (ValueError, KeyError, TypeError):
            raise RequestError(f"{path} line {number} is not an example; delete the file or restore it.") from None
    return examples
