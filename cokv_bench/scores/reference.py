"""Published scores beside those of a run."""

import csv
import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from cokv_bench.budget import Budget, column_type, read
from cokv_bench.errors import RequestError, unknown
from cokv_bench.files import at_home
from cokv_bench.option import budgets
from cokv_bench.policies.names import FULL
from cokv_bench.scores.means import groups, is_mean, means
from cokv_bench.tasks.registry import family_of

#: References that come with the package, by name.
REFERENCES = ("cokv", "adakv")
COLUMNS = ("source", "model", "model_ids", "mode", "method", "budget", "task", "score")
_MODES = ("question-aware", "question-agnostic")
_CELL = ["method", "budget", "task"]
_MEAN = "mean"


class NothingSharedError(RequestError):
    """A reference has none of the scores that it is to stand beside."""


def read_reference(name_or_path: str) -> pd.DataFrame:
    """Published scores, a row a source, model, mode, method, budget and task.

    Args:
        name_or_path: a name of `REFERENCES`, or a CSV file with the columns `COLUMNS`.

    Returns:
        `COLUMNS`; `model_ids` are hub ids with spaces between them, `budget` is in tokens per KV head (`Int64`, missing
        for `full`), `score` in percent.

    Raises:
        RequestError: an unknown name, a file that cannot be read, a missing column, or a row that is no score.
    """
    path = _path(name_or_path)
    try:
        # Spreadsheets put a byte order mark in front.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            header = reader.fieldnames or ()
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RequestError(f"The reference {path} cannot be read ({reason}).") from error
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise RequestError(
            f"The reference {path} lacks the columns {', '.join(missing)}; it needs {', '.join(COLUMNS)}."
        )
    if not rows:
        raise RequestError(f"The reference {path} holds no rows; add at least one published score.")
    table = pd.DataFrame([_row(row, f"{path} line {line}") for line, row in rows])
    return table.astype({"budget": column_type(table["budget"])})


def _path(name_or_path: str) -> Path:
    if name_or_path in REFERENCES:
        return Path(str(resources.files(__package__) / "published_scores" / f"{name_or_path}.csv"))
    path = at_home(Path(name_or_path))
    # A bare word is a name that was misspelt rather than a file.
    if path.suffix == "" and path.name == name_or_path and not path.exists():
        raise unknown("reference", name_or_path, REFERENCES)
    return path


def _row(row: Mapping[str, str | None], place: str) -> dict[str, Any]:
    """A row with numbers for budget and score."""
    texts = {column: (row[column] or "").strip() for column in COLUMNS}
    for column in ("source", "model", "method", "task"):
        if not texts[column]:
            raise RequestError(f"{place}: '{column}' is empty; name it.")
    if texts["mode"] not in _MODES:
        raise RequestError(f"{place}: mode '{texts['mode']}' is neither {' nor '.join(_MODES)}.")
    return {**texts, "budget": _budget(texts["budget"], place), "score": _score(texts["score"], place)}


def _budget(text: str, place: str) -> Budget | None:
    try:
        (budget,) = budgets(text, "budget") if text else [None]
    except ValueError:
        raise RequestError(
            f"{place}: budget '{text}' is not a whole number above 0 or a share such as 25%; leave it empty for full."
        ) from None
    return budget


def _score(text: str, place: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise RequestError(f"{place}: score '{text}' is not a number; give it in percent.")
    return score


def check_shared(name_or_path: str, configuration: Mapping[str, Any]) -> None:
    """Raises `NothingSharedError` where a reference has nothing that a run of this configuration will measure."""
    tasks = list(configuration["tasks"])
    cells = [
        (method, budget, task)
        for method in configuration["methods"]
        for budget in ([None] if method == FULL else map(read, configuration["budgets"]))
        for task in groups(tasks)
    ]
    ours = pd.DataFrame(cells, columns=_CELL).astype({"budget": column_type(budget for _, budget, _ in cells)})
    _joined(name_or_path, ours, configuration)


def reference_table(
    name_or_path: str, tables: Mapping[str, pd.DataFrame], configuration: Mapping[str, Any]
) -> pd.DataFrame:
    """The run's scores beside the published ones of the same method, budget and task, in the run's mode.

    A difference says something only for the model that was published, and for a mean over the same tasks: it is left
    empty for any other model, and for the mean of a run that does not have exactly LongBench's 16 English and code
    tasks.

    Args:
        name_or_path: a name of `REFERENCES`, or a CSV file of the same columns.
        tables: of the run, by file name; reads `scores.csv`.
        configuration: of the run.

    Returns:
        source, published_model, method, budget, task, published (percent), n, score (percent), ci_low, ci_high,
        difference (score minus published, points), same_model (bool).

    Raises:
        RequestError: as for `read_reference`; `NothingSharedError`: it has none of the run's methods, budgets and
            tasks.
    """
    table, mean = _joined(
        name_or_path, tables["scores.csv"][[*_CELL, "n", "score", "ci_low", "ci_high"]], configuration
    )
    table["budget"] = table["budget"].mask(table["budget"] == 0).astype(column_type(table["budget"]))
    table["same_model"] = [_is_one_of(configuration["model"]["id"], ids) for ids in table["model_ids"]]
    comparable = table["same_model"] & ((table["task"] != _MEAN) | (mean is not None))
    table["difference"] = (table["score"] - table["published"]).where(comparable)
    columns = ["published", "n", "score", "ci_low", "ci_high", "difference", "same_model"]
    return table[["source", "published_model", *_CELL, *columns]]


def _joined(name_or_path: str, ours: pd.DataFrame, configuration: Mapping[str, Any]) -> tuple[pd.DataFrame, str | None]:
    """Published rows with ours of the same cell, and which of our means is over the papers' tasks."""
    published = read_reference(name_or_path)
    mode = _MODES[bool(configuration.get("question_agnostic", False))]
    # The published mean is that of the papers' tasks, whatever a run with others calls its own.
    overall = means(task for task in ours["task"].unique() if not is_mean(task))
    mean = next((name for name, own in overall.items() if set(own) == set(family_of(own[0]).published_mean())), None)
    if mean is not None:
        ours = ours[(ours["task"] != _MEAN) | (mean == _MEAN)].replace({"task": {mean: _MEAN}})
    renamed = published[published["mode"] == mode].rename(columns={"score": "published", "model": "published_model"})
    table = _joinable(renamed).merge(_joinable(ours), on=_CELL)
    if not len(table):
        raise _nothing_shared(name_or_path, published, mode)
    return table, mean


def _joinable(table: pd.DataFrame) -> pd.DataFrame:
    """With budget 0 for none, for missing values may not match, and budgets of one type."""
    return table.fillna({"budget": 0}).astype({"budget": object})


def _is_one_of(model: str, ids: str) -> bool:
    """Whether a model's id or folder is one of the hub ids, by its last part."""

    def last(name: str) -> str:
        return name.rstrip("/").split("/")[-1].casefold()

    return last(model) in {last(name) for name in ids.split()}


def _nothing_shared(name: str, published: pd.DataFrame, mode: str) -> NothingSharedError:
    rows = published[published["mode"] == mode]
    if not len(rows):
        return NothingSharedError(
            f"The reference '{name}' has no {mode} scores, only {published['mode'].iloc[0]} ones."
        )
    budgets = ", ".join(map(str, sorted(rows["budget"].dropna().unique()))) or "none"
    tasks = list(rows["task"].unique())
    more = f" and {len(tasks) - 3} more" if len(tasks) > 3 else ""
    return NothingSharedError(
        f"The reference '{name}' has none of the run's scores; it has the methods {', '.join(rows['method'].unique())} "
        f"at the budgets {budgets} on the tasks {', '.join(tasks[:3])}{more}."
    )
