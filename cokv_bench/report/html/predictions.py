"""All answers of the runs, as columns that a page can hold and search."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from typing import Any

from cokv_bench.report.folders import Run


def _numbered() -> defaultdict[Any, int]:
    """Things with their numbers, in the order in which they are first asked for."""
    return defaultdict(count().__next__)


def columns(runs: Sequence[Run]) -> dict[str, Any]:
    """The answers as JSON of lists.

    Returns:
        `runs`, `tasks`, `strings`: each text once. `variants`: [method, budget or None]. `examples`: [run, task, id,
        question, [answers]] as numbers into those lists (id is text, question -1 where unknown). `example`,
        `variant`, `text`, `score`: columns of the records, those of an example one after the other.
    """
    names, tasks, strings, variants, examples = (_numbered() for _ in range(5))
    rows: list[tuple[int, int, int, float]] = []
    for run in runs:
        name = names[run.name]
        for record in run.records:
            example = examples[name, tasks[record["task"]], record["example"]]
            variant = variants[record["method"], record["budget"]]
            rows.append((example, variant, strings[record["prediction"]], round(record["score"], 4)))
    rows.sort(key=lambda row: row[0])
    of = {names[run.name]: run.examples for run in runs}
    task_names = list(tasks)
    described = []
    for name, task, identity in examples:
        question, answers = of[name].get((task_names[task], identity), ("", []))
        said = strings[question] if question else -1
        described.append([name, task, identity, said, [strings[answer] for answer in answers]])
    return {
        "runs": list(names),
        "tasks": task_names,
        "strings": list(strings),
        "variants": [list(variant) for variant in variants],
        "examples": described,
        **{key: [row[place] for row in rows] for place, key in enumerate(("example", "variant", "text", "score"))},
    }
