"""What a run's files must hold: whatever tables, figures and a resumed run take from them, by its type."""

from typing import Any

from cokv_bench.budget import read
from cokv_bench.checks import (
    Check,
    an_object,
    any_text,
    between_0_and_1,
    flag,
    listed,
    number,
    or_null,
    problem,
    text,
    whole,
)
from cokv_bench.errors import RequestError, quoted
from cokv_bench.tasks.registry import family_of
from cokv_bench.units import FRACTION

#: Columns of records with several questions per context: the score of the first, and the mean of the later ones.
FIRST, LATER = "first_score", "later_score"


def run_problem(content: Any) -> str | None:
    """Why a document is not the `run.json` of a run, None where it is."""
    found = problem(content, {"configuration": an_object}, {"versions": an_object})
    if found:
        return found
    settings = content["configuration"]
    none: dict[str, Check] = {}
    metric: dict[str, Check] = {"metric": text}
    parts: list[tuple[Any, dict[str, Check], dict[str, Check]]] = [
        (settings, _SETTINGS, _FURTHER_SETTINGS),
        (settings.get("model"), {"id": text, "layers": whole(1), "kv_heads": whole(1)}, {}),
        *[(task, metric, none) for task in _values(settings.get("tasks"))],
        *[(source, none, _RULE) for source in _values(settings.get("head_budgets"))],
        *[(options, none, _RULE) for options in _chosen_options(settings.get("knobs"))],
        (settings.get("windows", {}), {}, dict.fromkeys(_names(settings.get("windows")), whole(1))),
        (content.get("versions", {}), {}, {"git": or_null(text)}),
    ]
    return next((found for part in parts if (found := problem(*part))), None)


def record_problem(record: Any, scored: bool) -> str | None:
    """Why a document is not a record of a run, None where it is.

    Args:
        scored: whether the run scores answers, which a submission has no more. Their scores are 0 to 1, and tables by
            length or depth are made of such records alone.
    """
    found = problem(record, _RECORD, _FURTHER_COLUMNS)
    if found:
        return found
    later = record.get("later_predictions")
    if later is not None and len(record.get("question_scores", ())) != 1 + len(later):
        return "the field 'question_scores' has not one score for each answer"
    if (record["budget"] is None) != (record["method"] == "full"):
        return f"the field 'budget' is {quoted(record['budget'])} with the method {quoted(record['method'])}"
    if not scored:
        return None
    found = problem(record, family_of(record["task"]).columns(record["task"]))
    # Of another unit the run itself is damaged, which `read_records` says.
    return found or (problem(record, {}, _SCORES) if record.get("unit", FRACTION) == FRACTION else None)


def tabular(record: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record that tables are made of: no answers, and no half characters, which pandas cannot hold."""
    return {
        name: value
        for name, value in record.items()
        if name not in _TOLD and not text(name) and not (isinstance(value, str) and text(value))
    }


def _named_objects(value: Any) -> str | None:
    good = isinstance(value, dict) and value and not any(map(text, value))
    return None if good else "an object with a name or more"


def _budget(value: Any) -> str | None:
    """A number of tokens, or a share as it is written."""
    if not isinstance(value, str):
        return whole(1)(value)
    try:
        return None if str(read(value)) == value else f"'{read(value)}'"
    except RequestError:
        return "a whole number from 1 or a share such as '25%'"


def _values(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else []


def _names(value: Any) -> list[str]:
    return list(value) if isinstance(value, dict) else []


def _chosen_options(knobs: Any) -> list[Any]:
    """What methods had by benchmark and budget, one after the other; what is no object stands for itself."""
    if knobs is None:
        return []
    levels = [knobs.get("chosen") if isinstance(knobs, dict) else knobs]
    for _ in ("benchmarks", "methods", "budgets"):
        levels = [each for level in levels for each in (level.values() if isinstance(level, dict) else [level])]
    return levels


_SETTINGS: dict[str, Check] = {
    "model": an_object,
    "tasks": _named_objects,
    "methods": listed(text, 1),
    "budgets": listed(_budget, 1),
    "window": whole(1),
    "split": text,
    "seed": whole(0),
    "max_length": or_null(whole(1)),
}
_FURTHER_SETTINGS: dict[str, Check] = {
    "head_budgets": an_object,
    "windows": an_object,
    "published_rounding": flag,
    "question_agnostic": flag,
    "utility": or_null(text),
}
_RULE: dict[str, Check] = {
    "window": whole(1),
    **dict.fromkeys(("zeroed", "alpha"), or_null(whole(1))),
    "beta": or_null(number),
}
#: Answers, and what a record says of each question, of which no table is made.
_TOLD = ("prediction", "later_predictions", "question_scores", "question_ids")
_COUNTS = ("prompt_tokens", "kept_tokens", "kv_bytes", "new_tokens")
_RECORD: dict[str, Check] = {
    "task": text,
    "example": text,
    "method": text,
    "budget": or_null(_budget),
    "score": number,
    **dict.fromkeys(_COUNTS, whole(0)),
}
_SCORES: dict[str, Check] = {
    "score": between_0_and_1,
    **dict.fromkeys(("word_recall", "rouge_score_l", FIRST, LATER), or_null(between_0_and_1)),
    "question_scores": listed(between_0_and_1),
}
_FURTHER_COLUMNS: dict[str, Check] = {
    "question_ids": listed(text, 2),
    "question_scores": listed(number, 2),
    "later_predictions": listed(any_text, 1),
    "other_bytes": or_null(whole(0)),
    "prediction": any_text,
    "unit": text,
    "length": or_null(number),
    **dict.fromkeys(("depth", "word_recall", "rouge_score_l", FIRST, LATER), or_null(number)),
    "bucket": or_null(text),
}
