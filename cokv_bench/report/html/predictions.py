"""All answers of the runs, as columns that a page can hold and search."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from cokv_bench.report.folders import Question, Run


def _numbered() -> defaultdict[Any, int]:
    """Things with their numbers, in the order in which they are first asked for."""
    return defaultdict(count().__next__)


def columns(runs: Sequence[Run]) -> dict[str, Any]:
    """The answers as JSON of lists. Each question of a context is an example of its own, with its own answers.

    Returns:
        `runs`, `tasks`, `strings`: each text once. `variants`: [method, budget or None]. `examples`: [run, task, id,
        question, [answers], place] as numbers into those lists (id is text, question -1 where unknown, place such as
        "question 2 of 3", empty where the context has one). `example`, `variant`, `text`, `score`: columns of the
        answers, those of an example one after the other.
    """
    names, tasks, strings, variants, examples = (_numbered() for _ in range(5))
    rows: list[tuple[int, int, int, float]] = []
    for run in runs:
        name = names[run.name]
        for record in run.records:
            variant = variants[record["method"], record["budget"]]
            for place, of, answer, score in _answers(record):
                example = examples[name, tasks[record["task"]], record["example"], place, of]
                rows.append((example, variant, strings[answer], round(score, 4)))
    rows.sort(key=lambda row: row[0])
    asked = {names[run.name]: run.examples for run in runs}
    task_names = list(tasks)
    described = []
    for name, task, identity, place, of in examples:
        question, answers = _question(asked[name].get((task_names[task], identity), ()), place)
        told = f"question {place + 1} of {of}" if of > 1 else ""
        said = strings[question] if question else -1
        described.append([name, task, identity, said, [strings[answer] for answer in answers], told])
    return {
        "runs": list(names),
        "tasks": task_names,
        "strings": list(strings),
        "variants": [list(variant) for variant in variants],
        "examples": described,
        **{key: [row[place] for row in rows] for place, key in enumerate(("example", "variant", "text", "score"))},
    }


def _answers(record: Mapping[str, Any]) -> Iterator[tuple[int, int, str, float]]:
    """Of each question its place, how many there are, the answer and its own score."""
    texts = [record["prediction"], *record.get("later_predictions", ())]
    scores = record["question_scores"] if len(texts) > 1 else [record["score"]]
    for place, (text, score) in enumerate(zip(texts, scores, strict=True)):
        yield place, len(texts), text, score


def _question(asked: Sequence[Question], place: int) -> Question:
    return asked[place] if place < len(asked) else Question("", [])
