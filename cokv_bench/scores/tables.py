"""Tables of a run, made from its records alone, in the unit of what was measured."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cokv_bench.budget import column_type, read, tokens_of
from cokv_bench.errors import RequestError
from cokv_bench.files import write_text
from cokv_bench.lists import split
from cokv_bench.policies.names import canonical, competing
from cokv_bench.runs.checked import tabular
from cokv_bench.runs.journal import read_records, read_run
from cokv_bench.scores.comparisons import choose_baselines, comparisons_table
from cokv_bench.scores.gaps import LOWER, UPPER, gaps_table
from cokv_bench.scores.intervals import Bounds, interval
from cokv_bench.scores.lengths import lengths_table
from cokv_bench.scores.means import is_mean, means
from cokv_bench.scores.questions import questions_table
from cokv_bench.scores.reference import NothingSharedError, check_shared, reference_table
from cokv_bench.scores.units import PERCENT, Unit, scale_of, unit_of
from cokv_bench.tasks.registry import family_of

#: By file name. The tidy table is always "scores.csv" with a column "score" here; its file is `Unit.file`.
Tables = dict[str, pd.DataFrame]
COMPARISONS, GAPS, QUESTIONS, LENGTHS = "comparisons.csv", "gaps.csv", "questions.csv", "lengths.csv"
REFERENCE = "reference.csv"

_CELL = ["task", "method", "budget"]
#: `other_bytes`, of hybrid models alone, is what layers hold that no method evicts.
_COSTS = ["prompt_tokens", "kept_tokens", "kept_per_head", "kv_bytes", "other_bytes", "new_tokens"]
#: Further scores in [0, 1] that records of some tasks have.
_EXTRA = ("word_recall", "rouge_score_l")
#: What the tidy table of a utility has: its runs generate no answers.
_OF_UTILITIES = ["method", "budget", "task", "n", "score", "ci_low", "ci_high", "kept_per_head", "exact_total"]


class Results(NamedTuple):
    """A run's tables by file name, its configuration, and the unit of its numbers."""

    tables: Tables
    configuration: dict[str, Any]
    unit: Unit


def write_tables(folder: Path, baselines: Sequence[str] = (), *, reference: str | None = None) -> Tables:
    """The tables of `tabulate` alone."""
    return tabulate(folder, baselines, reference=reference).tables


def tabulate(folder: Path, baselines: Sequence[str] = (), *, reference: str | None = None) -> Results:
    """Count a run's tables from its records and write them into its folder, see `count_tables`.

    Args:
        baselines: methods that the others are compared with; default SnapKV, or the next best known that the run has.
        reference: published scores to put beside the run's: "cokv", "adakv" or a CSV file. Gives `reference.csv`, once
            the run has a score that is published.

    Raises:
        RequestError: the folder holds no records, the run has no such baseline, or the reference cannot be used, also
            once the run is finished; the other tables are written before that is known of the reference.
    """
    records = read_records(folder)
    if not records:
        raise RequestError(f"{folder} holds no records yet, so there is nothing to tabulate.")
    configuration = read_run(folder)["configuration"]
    tables, unit = count_tables(records, configuration, baselines), unit_of(configuration, records)
    for name, table in tables.items():
        _write(folder, name, table, unit)
    if reference is not None:
        try:
            tables[REFERENCE] = reference_table(reference, tables, configuration)
        except NothingSharedError:
            # Of a run that is not finished yet, other shards may add what is published.
            check_shared(reference, configuration)
        else:
            _write(folder, REFERENCE, tables[REFERENCE], unit)
    return Results(tables, configuration, unit)


def _write(folder: Path, name: str, table: pd.DataFrame, unit: Unit) -> None:
    if name == PERCENT.file:
        name, table = unit.file, table.rename(columns={PERCENT.column: unit.column})
    write_text(folder / name, table.to_csv(index=False, float_format=unit.digits, lineterminator="\n"))


def count_tables(
    records: Sequence[Mapping[str, Any]], configuration: Mapping[str, Any], baselines: Sequence[str] = ()
) -> Tables:
    """The tables of a run's records.

    `scores.csv` and `table.csv` always; `comparisons.csv` where there are two methods to compare at a budget. Of scores
    also those of the tasks' benchmarks, such as `needle.csv`, and `lengths.csv` where a task has several lengths; of a
    utility `gaps.csv` where the run has both ends of the gap. `questions.csv` where contexts have several questions.

    Args:
        records: of the run, one or more.
        configuration: of the run.
        baselines: one after the other in `comparisons.csv`; default as for `write_tables`.

    Raises:
        RequestError: a baseline that the run does not have.
    """
    frame = frame_of(records)
    scores = scores_table(frame, configuration)
    chosen = choose_baselines(configuration["methods"], baselines)
    compared = [table for each in chosen if len(table := comparisons_table(frame, configuration, each))]
    tables = {"scores.csv": scores, "table.csv": wide_table(scores)}
    tables[COMPARISONS] = pd.concat(compared, ignore_index=True) if compared else pd.DataFrame()
    tables |= {name: table(frame, configuration) for name, table in by_question_and_length(configuration).items()}
    if configuration.get("utility") is None:
        tables |= own_tables(frame)
    elif {LOWER, UPPER} <= set(frame["method"]):
        tables[GAPS] = gaps_table(frame)
    return {name: table for name, table in tables.items() if len(table)}


def by_question_and_length(
    configuration: Mapping[str, Any],
) -> dict[str, Callable[[pd.DataFrame, Mapping[str, Any]], pd.DataFrame]]:
    """What makes the tables of parts of a run, which are empty where it has one part, by file name."""
    lengths = {LENGTHS: lengths_table} if configuration.get("utility") is None else {}
    return {QUESTIONS: questions_table, **lengths}


def frame_of(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The fields of records that tables are made of, a row a record."""
    rows = [{**tabular(dict(record)), "budget": read(record["budget"])} for record in records]
    return pd.DataFrame(rows).astype({"budget": column_type(row["budget"] for row in rows)})


def named_baselines(folder: Path, configuration: Mapping[str, Any]) -> list[str]:
    """The methods that a run is compared with: those of its comparisons, else those that were asked for.

    None where neither names a method of the run: it is then compared with what `choose_baselines` chooses.

    Raises:
        RequestError: the folder's `run.json` is damaged or missing.
    """
    there = {canonical(method): method for method in competing(configuration["methods"])}
    for read_names in (_compared_with, _asked_for):
        found = [there[name] for name in map(canonical, read_names(folder)) if name in there]
        if found:
            return list(dict.fromkeys(found))
    return []


def _compared_with(folder: Path) -> list[str]:
    """The baselines of a run's comparisons; none where it has no comparisons, or damaged ones."""
    try:
        return [str(name) for name in pd.read_csv(folder / COMPARISONS, usecols=["baseline"])["baseline"].unique()]
    except (OSError, ValueError):
        return []


def _asked_for(folder: Path) -> list[str]:
    """The baselines in the request that a run.json keeps; none in those of earlier versions, which kept none."""
    request = read_run(folder).get("request")
    named = request.get("baseline") if isinstance(request, Mapping) else None
    return split(named) if isinstance(named, str) else []


def scores_table(frame: pd.DataFrame, configuration: Mapping[str, Any]) -> pd.DataFrame:
    """A row a task, method and budget: mean score in the unit of tables with a 95% interval (see `interval`).

    After them, a row for each mean over tasks (see `means`), method and budget that has all of its tasks: the mean of
    the tasks' means. Its interval is for new examples of the same tasks.
    """
    scale = scale_of(configuration)
    rows, scores = [], []
    for (task, method, budget), cell in frame.groupby(_CELL, sort=False, dropna=False):
        start = {"model": configuration["model"]["id"], "method": method, "budget": budget, "task": task}
        scores.append(scale.factor * cell["score"].to_numpy(float))
        low, high = interval(scores[-1:], scale.scores)
        rows.append(
            {
                **start,
                "metric": configuration["tasks"][task]["metric"],
                "n": len(cell),
                "score": scores[-1].mean(),
                "ci_low": low,
                "ci_high": high,
                **_costs(cell, budget, configuration["model"]["layers"] * configuration["model"]["kv_heads"]),
                **{name: 100 * cell[name].mean() for name in _extra_scores(cell)},
            }
        )
    table = pd.DataFrame(rows).astype({"budget": column_type(frame["budget"])})
    added = _mean_rows(table, scores, scale.scores)
    table = pd.concat([table, added], ignore_index=True) if len(added) else table
    return table if configuration.get("utility") is None else table[_OF_UTILITIES]


def _mean_rows(table: pd.DataFrame, scores: list[NDArray[np.float64]], bounds: Bounds | None) -> pd.DataFrame:
    """A row a mean, method and budget that has all of its tasks.

    Args:
        table: a row a task, method and budget.
        scores: of the examples behind each row.
        bounds: of a score.
    """
    rows = []
    groups = table.groupby(["model", "method", "budget"], sort=False, dropna=False)
    cells = [(name, tasks, *cell) for name, tasks in means(table["task"].unique()).items() for cell in groups]
    for name, tasks, (model, method, budget), every in cells:
        parts = every[every["task"].isin(tasks)]
        if len(parts) == len(tasks):
            low, high = interval([scores[row] for row in parts.index], bounds)
            rows.append(
                {
                    "model": model,
                    "method": method,
                    "budget": budget,
                    "task": name,
                    "n": parts["n"].sum(),
                    "score": parts["score"].mean(),
                    "ci_low": low,
                    "ci_high": high,
                    **parts[[name for name in _COSTS if name in parts]].mean(),
                    "exact_total": bool(parts["exact_total"].all()),
                }
            )
    return pd.DataFrame(rows).astype({"budget": column_type(table["budget"])}) if rows else pd.DataFrame()


def _costs(cell: pd.DataFrame, budget: Any, heads: int) -> dict[str, Any]:
    """What a method kept of each prompt, and how long its answers were: means over the examples."""
    allowed = [
        tokens if pd.isna(budget) else min(tokens, tokens_of(budget, tokens)) for tokens in cell["prompt_tokens"]
    ]
    return {
        "prompt_tokens": cell["prompt_tokens"].mean(),
        "kept_tokens": cell["kept_tokens"].mean(),
        "kept_per_head": cell["kept_tokens"].mean() / heads,
        "exact_total": bool((cell["kept_tokens"] == heads * np.array(allowed)).all()),
        "kv_bytes": cell["kv_bytes"].mean(),
        **({"other_bytes": cell["other_bytes"].mean()} if "other_bytes" in cell else {}),
        "new_tokens": cell["new_tokens"].mean(),
    }


def _extra_scores(cell: pd.DataFrame) -> list[str]:
    return [name for name in _EXTRA if name in cell and cell[name].notna().any()]


def wide_table(scores: pd.DataFrame) -> pd.DataFrame:
    """The papers' shape of `scores_table`: a row a method and budget, a column a task, means over tasks last."""
    cells = scores.groupby(["method", "budget", "task"], dropna=False, sort=False)["score"].first().unstack("task")
    tasks = [task for task in scores["task"].unique() if not is_mean(task)]
    wide = cells.reindex(columns=[*tasks, *means(tasks)]).reset_index()
    return wide.sort_values("budget", kind="stable", na_position="first", ignore_index=True)


def own_tables(frame: pd.DataFrame) -> Tables:
    """The further tables that the benchmarks of a run have, by file name, such as needle.csv."""
    families = {family_of(task).name: family_of(task) for task in frame["task"].unique()}
    names = frame["task"].map(lambda task: family_of(task).name)
    return {
        file: table for name, family in families.items() for file, table in family.tables(frame[names == name]).items()
    }
