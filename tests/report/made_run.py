"""A small run's folder, made by hand: no model, and answers that try to break out of a page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cokv_bench.budget import tokens_of
from cokv_bench.budgets import embedded
from cokv_bench.files import file_sha256

ATTACKS = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<img src=x onerror=alert(3)>",
    "\ud800 & \u2028",
)
METHODS = ("full", "snapkv", "ada-snapkv", "cokv")
BUDGETS = (64, 128)
TASKS = ("needle", "jsonl:<b>own</b>.jsonl")
EXAMPLES = 12


def make_run(
    folder: Path,
    *,
    examples: int = EXAMPLES,
    questions: bool = True,
    budgets: Sequence[int | str] = BUDGETS,
    asked: int = 1,
) -> Path:
    """Write `run.json`, `records.jsonl` and, where wanted, `examples.jsonl`. FullKV is always right.

    SnapKV is wrong in every third example, CoKV in every fourth of the needles; the first answers are attacks.

    Args:
        questions: whether to write `examples.jsonl`.
        asked: questions of each context. Of the later ones all methods answer all but the last right.
    """
    folder.mkdir(parents=True)
    configuration = {
        "model": {"id": "smollm2-135m", "layers": 30, "kv_heads": 3, "head_dim": 64, "weights": "374701eb86cb9a7d"},
        "tasks": {
            task: {"version": 1, "metric": "found", "examples": examples, **({"questions": asked} if asked > 1 else {})}
            for task in TASKS
        },
        "methods": sorted(METHODS),
        "budgets": list(budgets),
        "window": 8,
        "split": "test",
        "seed": 0,
        "max_length": None,
        "head_budgets": {"cokv": {"profile": file_sha256(embedded.values_path()), "zeroed": None}},
    }
    described = {"configuration": configuration, "versions": {"git": "abc123"}}
    (folder / "run.json").write_text(json.dumps(described))
    records = [_with_later(record, asked) if asked > 1 else record for record in _records(examples, budgets)]
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if questions:
        lines = [
            {
                "task": task,
                "example": f"e{index:05d}",
                "question": f"Which <i>{index}</i>?",
                "answers": [f"No. {index}"],
                **({"later": [_later(index, number) for number in range(2, asked + 1)]} if asked > 1 else {}),
            }
            for task in TASKS
            for index in range(examples)
        ]
        (folder / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def _later(index: int, number: int) -> dict[str, Any]:
    return {"question": f"And {index} of {number}?", "answers": [f"No. {index} of {number}", "another"]}


def _with_later(record: dict[str, Any], asked: int) -> dict[str, Any]:
    scores = [record["score"], *[1.0] * (asked - 2), 0.0]
    return {
        **record,
        "later_predictions": [f"Later {number} of {record['method']}" for number in range(2, asked + 1)],
        "score": sum(scores) / asked,
        "first_score": scores[0],
        "later_score": sum(scores[1:]) / (asked - 1),
        "question_scores": scores,
    }


def _records(examples: int, budgets: Sequence[int | str]) -> list[dict[str, Any]]:
    records = []
    for task in TASKS:
        for index in range(examples):
            for method in METHODS:
                for budget in (None,) if method == "full" else budgets:
                    wrong = (method == "snapkv" and index % 3 == 0) or (
                        method == "cokv" and task == "needle" and index % 4 == 0
                    )
                    text = ATTACKS[index] if index < len(ATTACKS) else f"Answer {index} of {method}"
                    kept = 90 * tokens_of(budget or 500, 500)
                    record = {
                        "task": task,
                        "example": f"e{index:05d}",
                        "method": method,
                        "budget": budget,
                        "prediction": text,
                        "score": 0.0 if wrong else 1.0,
                        "prompt_tokens": 500,
                        "kept_tokens": kept,
                        "kv_bytes": 512 * kept,
                        "new_tokens": 5,
                    }
                    if task == "needle":
                        record |= {"length": 512 * (1 + index % 2), "depth": 50.0 * (index % 3), "word_recall": 1.0}
                    records.append(record)
    return records
