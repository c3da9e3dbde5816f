"""What a report reads of a folder: a run of scores or of a utility, or a benchmark of memory and latency."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cokv_bench.budgets.checked_json import strict_loads
from cokv_bench.checks import Check, an_object, any_text, listed, or_null, problem, text
from cokv_bench.errors import RequestError
from cokv_bench.log import take_lines, whole_lines
from cokv_bench.report.tables import read_tables, with_budgets
from cokv_bench.runs.examples import EXAMPLES
from cokv_bench.runs.journal import read_records, read_run
from cokv_bench.runs.submission import SUBMISSION
from cokv_bench.scores.units import PERCENT, Unit, unit_of

BENCH = "bench.csv"
_BENCH_COLUMNS: dict[Any, Any] = {
    **dict.fromkeys(("model", "device", "dtype", "method"), str),
    "budget": str,
    "prompt_tokens": "Int64",
    **dict.fromkeys(("decode_ms", "peak_bytes", "kv_bytes_held"), float),
}
# Figures take them where they are; they came with later versions.
_FURTHER_BENCH_COLUMNS: dict[Any, Any] = dict.fromkeys(("decode_ms_low", "decode_ms_high", "graph_ms"), float)
_QUESTION: dict[str, Check] = {"question": or_null(any_text), "answers": or_null(listed(any_text))}
_EXAMPLE: dict[str, Check] = {"task": text, "example": text, **_QUESTION}


class Question(NamedTuple):
    """What an example asks, nothing of it where the prompt is all, and its reference answers."""

    text: str
    answers: list[str]


@dataclass(frozen=True)
class Run:
    """A run of `eval`: answers with their scores, or what a utility says of each method.

    Attributes:
        name: short, of this run alone among those of a report.
        description: its `run.json`.
        unit: of its numbers.
        records: one an example, method and budget; those of a utility or of a submission come without predictions.
        tables: by file name, as `count_tables` of `cokv_bench.scores.tables` makes them.
        examples: (task, example) -> its questions, where the run has kept them.
    """

    name: str
    folder: Path
    description: dict[str, Any]
    unit: Unit
    records: list[dict[str, Any]]
    tables: dict[str, pd.DataFrame]
    examples: dict[tuple[str, str], list[Question]]

    @property
    def configuration(self) -> dict[str, Any]:
        configuration: dict[str, Any] = self.description["configuration"]
        return configuration

    @property
    def has_answers(self) -> bool:
        """Whether there are answers to show."""
        return all("prediction" in record for record in self.records)


def _a_question(value: Any) -> str | None:
    return "an object of a question and its answers" if problem(value, _QUESTION) else None


@dataclass(frozen=True)
class Bench:
    """A benchmark: the rows of bench.csv, and its `run.json`, empty where there is none."""

    name: str
    folder: Path
    description: dict[str, Any]
    table: pd.DataFrame


def read_folders(folders: Sequence[Path]) -> tuple[list[Run], list[Bench]]:
    """Read what a report is about. What is stored of a run's tables is read where it is of its records.

    Raises:
        RequestError: a folder is neither a run with records nor a benchmark, or a file in it is damaged.
    """
    runs: list[Run] = []
    benches: list[Bench] = []
    names = short_names(folders)
    for name, folder in zip(names, folders, strict=True):
        if (folder / BENCH).is_file():
            benches.append(_read_bench(name, folder))
        else:
            runs.append(_read_run(name, folder))
    return runs, benches


def short_names(folders: Sequence[Path]) -> list[str]:
    """As many last parts of the paths as tell them apart. Raises `RequestError` where a folder is named twice."""
    parts = [folder.resolve().parts for folder in folders]
    for path, folder in zip(parts, folders, strict=True):
        if parts.count(path) > 1:
            raise RequestError(f"{folder} is named twice; name each folder once.")
    names: list[str] = []
    for count in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(path[-count:]) for path in parts]
        if len(set(names)) == len(names):
            break
    return names


def _read_bench(name: str, folder: Path) -> Bench:
    path = folder / BENCH
    try:
        table = with_budgets(pd.read_csv(path, dtype={**_BENCH_COLUMNS, **_FURTHER_BENCH_COLUMNS}))
        table[list(_BENCH_COLUMNS)]
        description = folder / "run.json"
        told = strict_loads(description.read_bytes()) if description.is_file() else {}
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise RequestError(f"{path} or its run.json is damaged ({error}); run `cokv-bench bench` again.") from None
    if table.empty:
        raise RequestError(f"{path} holds no measurement yet; run `cokv-bench bench` again.")
    found = problem(told, {}, {"device": text, "versions": an_object})
    found = found or problem(told.get("versions", {}), {}, {"git": or_null(text)})
    if found is None and table[["model", "device", "dtype", "method", "prompt_tokens"]].isna().any(axis=None):
        found = "a row lacks its model, device, dtype, method or prompt_tokens"
    if found is None and (table["prompt_tokens"] < 1).any():
        found = "a row has less than a token of a prompt"
    if found is None and np.isinf(table.select_dtypes("float")).any(axis=None):
        found = "a number is not finite"
    if found:
        raise RequestError(f"{path} or its run.json is damaged ({found}); run `cokv-bench bench` again.")
    return Bench(name, folder, told, table)


def _read_run(name: str, folder: Path) -> Run:
    description = read_run(folder)
    records = read_records(folder)
    if not records:
        raise RequestError(f"{folder} holds no records yet, so there is nothing to report.")
    unit = unit_of(description["configuration"], records)
    withheld = SUBMISSION in description
    if unit is PERCENT and not withheld and any("prediction" not in record for record in records):
        raise RequestError(f"The records of {folder} have no answers, so they are not of `cokv-bench eval`.")
    tables = read_tables(folder, unit, records, description["configuration"])
    return Run(name, folder, description, unit, records, tables, _read_examples(folder))


def _read_examples(folder: Path) -> dict[tuple[str, str], list[Question]]:
    path = folder / EXAMPLES
    if not path.is_file():
        return {}
    examples = {}

    def take(row: Any) -> str | None:
        found = problem(row, _EXAMPLE, {"later": listed(_a_question)})
        if found:
            return f"is not an example: {found}"
        asked = [row, *row.get("later", ())]
        examples[row["task"], row["example"]] = [
            Question(each["question"] or "", each["answers"] or []) for each in asked
        ]
        return None

    take_lines(path, whole_lines(path), take)
    return examples
