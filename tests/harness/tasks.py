"""Tasks that a harness reads from local files: rows in LongBench's shape, RULER's and choices."""

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from cokv_bench.models import Model
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.registry import resolve

#: Characters of a LongBench row's context, which are as many tokens of the tests' model.
CUT = 700


def without_lm_evals_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let lm-eval's command line know the tasks of --include_path alone; its own are thousands of files to read."""
    tasks = pytest.importorskip("lm_eval.tasks", reason="lm-evaluation-harness is not installed")
    monkeypatch.setattr(tasks, "TaskManager", partial(tasks.TaskManager, include_defaults=False))


def add_task(folder: Path, name: str, rows: Iterable[Mapping[str, Any]], **settings: Any) -> None:
    """A task of lm-eval: its rows and the YAML that tells of them."""
    (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    told = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(folder / f"{name}.jsonl")},
            "cache_dir": str(folder / "datasets"),
        },
        "test_split": "test",
        **settings,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")


def _generation(tokens: int, metric: str = "exact_match") -> dict[str, Any]:
    return {
        "output_type": "generate_until",
        # As lm-eval's own LongBench tasks have it: a temperature that nothing is drawn with.
        "generation_kwargs": {"max_gen_toks": tokens, "temperature": 1, "do_sample": False, "until": ["\n"]},
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True}],
    }


def add_longbench(folder: Path, rows: Path) -> None:
    """Real rows of HotpotQA, their contexts cut."""
    lines = rows.read_text(encoding="utf-8").splitlines()[:3]
    parsed = [json.loads(line) for line in lines]
    add_task(
        folder,
        "hotpotqa",
        [{"context": row["context"][:CUT], "input": row["input"], "answers": row["answers"]} for row in parsed],
        doc_to_text="Answer the question.\n\n{{context}}\n\nQuestion: {{input}}\nAnswer:",
        doc_to_target="{{answers[0]}}",
        **_generation(12),
    )


def add_ruler(folder: Path, model: Model) -> None:
    """Needles in noise and in essays, as this project makes them."""
    names = ("ruler/niah_single_1", "ruler/niah_multikey_1")
    tasks = resolve(names, model, TaskOptions(names=names, lengths=(700,), examples=2))
    examples = [example for task in tasks for example in task.examples("test")]
    add_task(
        folder,
        "ruler",
        [{"input": each.prompt, "outputs": each.answers} for each in examples],
        doc_to_text="{{input}}",
        doc_to_target="{{outputs[0]}}",
        **_generation(12),
    )


def add_choices(folder: Path, name: str = "piers") -> None:
    """Questions whose choices have one token and several."""
    boats = [" ".join(f"Boat {number} waits at pier {number * 3 + row}." for number in range(12)) for row in range(3)]
    add_task(
        folder,
        name,
        [
            {"context": text, "choices": [f"pier {6 + row}", "A", "the harbour of the old town", "B"], "answer": 0}
            for row, text in enumerate(boats)
        ],
        output_type="multiple_choice",
        doc_to_text="{{context}}\nWhere does boat 2 wait?\nAnswer:",
        doc_to_choice="{{choices}}",
        doc_to_target="answer",
        metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    )
