"""What a run will do, fixed before it starts: examples, variants, and the configuration that names it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.models import Model
from cokv_bench.policies import Policy
from cokv_bench.policies.policy import check_budget
from cokv_bench.tasks import Example, Split, Task
from cokv_bench.tasks.prompts import check_lengths


@dataclass(frozen=True)
class Variant:
    """A method at a budget (tokens a KV head, window included); `full` has no budget."""

    method: str
    budget: int | None
    policy: Policy

    @property
    def key(self) -> tuple[str, int | None]:
        return self.method, self.budget


@dataclass(frozen=True)
class Plan:
    """A grid of tasks, examples and variants on one model.

    Attributes:
        examples: the examples of each task, by task name.
        max_length: cut of long prompts, for tasks that cut.
        configuration: everything that decides a result, as JSON; two runs with equal configurations are one run.
    """

    model: Model
    tasks: list[Task]
    examples: dict[str, list[Example]]
    variants: list[Variant]
    window: int
    max_length: int | None
    configuration: dict[str, Any]

    @property
    def name(self) -> str:
        """Folder name of the run: the model and a hash of the configuration."""
        digest = hashlib.sha256(json.dumps(self.configuration, sort_keys=True).encode()).hexdigest()
        return f"{Path(self.model.name).name}-{digest[:8]}"


def make_plan(
    model: Model,
    tasks: Sequence[Task],
    policies: Sequence[Policy],
    budgets: Sequence[int],
    *,
    window: int,
    split: Split,
    seed: int,
    max_length: int | None = None,
    settings: Mapping[str, Any],
    profiled: Mapping[str, Sequence[str]],
) -> Plan:
    """Check a request as a whole and lay it out.

    Args:
        settings: what else decides a result (pooling, rounding, hashes of budget files), for the configuration.
        profiled: ids of the examples that each method's budgets were made from.

    Raises:
        RequestError: a budget that is not above the window, no examples, examples that a method was profiled
            on, or a prompt longer than the context of the model.
    """
    for budget in budgets:
        check_budget(budget, window)
    examples = {task.name: task.examples(split) for task in tasks}
    for task, rows in examples.items():
        if not rows:
            raise RequestError(f"Task '{task}' has no examples in the split '{split}'; choose another split.")
        unlabelled = sum(not row.answers for row in rows)
        if unlabelled:
            raise RequestError(
                f"{unlabelled} of the {len(rows)} examples of '{task}' have no answers to score against; "
                "add a field 'answers', or only profile on them with --utility agreement."
            )
    _refuse_profiled(examples, profiled)
    check_lengths(model, [row for rows in examples.values() for row in rows])
    variants: dict[tuple[str, int | None], Variant] = {}
    for policy in policies:
        limits = [None] if policy.name == "full" else sorted(set(budgets))
        for limit in limits:
            variants[policy.name, limit] = Variant(policy.name, limit, policy)
    configuration = {
        "model": model.fingerprint,
        "dtype": str(model.network.dtype).removeprefix("torch."),
        "tasks": {task.name: _task_configuration(task, examples[task.name]) for task in tasks},
        "methods": sorted({variant.method for variant in variants.values()}),
        "budgets": sorted(set(budgets)),
        "window": window,
        "split": split,
        "seed": seed,
        "max_length": max_length,
        **settings,
    }
    return Plan(model, list(tasks), examples, list(variants.values()), window, max_length, configuration)


def _task_configuration(task: Task, examples: Sequence[Example]) -> dict[str, Any]:
    ids = hashlib.sha256("\n".join(example.id for example in examples).encode()).hexdigest()[:16]
    return {"version": task.version, "metric": task.metric, "examples": len(examples), "ids": ids}


def _refuse_profiled(examples: Mapping[str, Sequence[Example]], profiled: Mapping[str, Sequence[str]]) -> None:
    for method, ids in profiled.items():
        known = set(ids)
        for task, rows in examples.items():
            overlap = sum(row.id in known for row in rows)
            if overlap:
                raise RequestError(
                    f"The budgets of '{method}' were made from {overlap} of the {len(rows)} examples of '{task}' that "
                    "it would be evaluated on; evaluate on the test split, or profile on other examples."
                )
