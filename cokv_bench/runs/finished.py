"""Whether a run has all of its records."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.policies.names import FULL


def check_finished(folder: Path, configuration: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a run that lacks a record of some example, method and budget.

    Args:
        folder: of the run.
        configuration: of the run.
        records: of the run, each key once.

    Raises:
        RequestError: with the first task, method and budget that lack records, or a task with too many examples.
    """
    found = Counter((record["task"], record["method"], record["budget"]) for record in records)
    ids: dict[str, set[str]] = {}
    for record in records:
        ids.setdefault(record["task"], set()).add(record["example"])
    for task, told in configuration["tasks"].items():
        examples = told.get("examples")
        if type(examples) is not int or examples < 1:
            raise RequestError(
                f"run.json in {folder} does not say how many examples '{task}' has, so nobody can tell whether the run "
                "is finished; run it again with this version."
            )
        if len(ids.get(task, ())) > examples:
            raise RequestError(
                f"{folder} has records of {len(ids[task])} examples of '{task}', and its run.json says {examples}; "
                "restore one of the two files."
            )
        for method in configuration["methods"]:
            for budget in (None,) if method == FULL else configuration["budgets"]:
                there = found[task, method, budget]
                if there != examples:
                    at = "" if budget is None else f" at {budget}"
                    raise RequestError(
                        f"{folder} is not finished: it has {there} of {examples} records of '{task}' for '{method}'"
                        f"{at}; repeat the command that made it, which resumes it."
                    )


def unfinished(configuration: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """A sentence about a run that lacks records; empty where it has all, or does not say how many it should have.

    Args:
        configuration: of the run.
        records: of the run, each key once.
    """
    counts = [task.get("examples") for task in configuration["tasks"].values()]
    if any(type(count) is not int for count in counts):
        return ""
    limited = [method for method in configuration["methods"] if method != FULL]
    per_example = len(limited) * len(configuration["budgets"]) + (FULL in configuration["methods"])
    planned = sum(counts) * per_example
    if len(records) >= planned:
        return ""
    return (
        f"This run is not finished: it has {len(records)} of {planned} records. Repeat the command that made it to "
        "resume it."
    )
