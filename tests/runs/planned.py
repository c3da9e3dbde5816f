"""Plans of small runs with files about heads made up, for tests of what methods a run has."""

from typing import Any

import numpy as np

from cokv_bench.budgets import HeadScores, HeadShares, HeadValues
from cokv_bench.models import Model
from cokv_bench.runs.plan import Plan
from cokv_bench.runs.request import plan_request
from cokv_bench.tasks.options import TaskOptions
from tests.requests import request_of

OPTIONS = TaskOptions(lengths=(300,), examples=2)


def plan_for(model: Model, *methods: str, budgets: tuple[int, ...] = (30,), **changes: Any) -> Plan:
    return plan_request(
        request_of(["needle"], methods, budgets, **{"options": OPTIONS, "knobs": "papers", **changes}), model
    )


def policies(plan: Plan) -> dict[str, Any]:
    return {each.method: each.policy for each in plan.jobs[0].parts[0].variants}


def values_of(model: Model, tasks: tuple[str, ...] = ("elsewhere",), seed: int = 0) -> HeadValues:
    shape = (model.layers, model.kv_heads)
    values = np.random.default_rng(seed).random(shape)
    return HeadValues(values, np.zeros(shape), "ssv", 1, 0, "loglik", 8, tasks, (f"seen-{seed}",), model.fingerprint)


def shares_of(model: Model) -> HeadShares:
    tables = np.random.default_rng(1).random((1, model.layers, model.kv_heads))
    return HeadShares((30,), tables, 16, ("loglik",), ("elsewhere",), ("seen",), model.fingerprint, {}, 5, "avg")


def scores_of(model: Model) -> HeadScores:
    scores = np.arange(1.0, 1 + model.layers * model.heads).reshape(model.layers, model.heads)
    return HeadScores({**model.fingerprint, "heads": model.heads}, scores, "by hand", ("elsewhere",), ("seen",))
