"""From what a user asks for to a plan: names resolved and everything checked before any work."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cokv_bench.errors import RequestError, unknown
from cokv_bench.models import Model
from cokv_bench.policies import POLICIES, Policy, get_policy
from cokv_bench.policies.policy import check_budget
from cokv_bench.runs.plan import Plan, make_plan
from cokv_bench.runs.sources import STATIC_METHODS, Sources, StaticBudgets, static_budgets
from cokv_bench.tasks import Split
from cokv_bench.tasks.prompts import Encoding
from cokv_bench.tasks.registry import TaskOptions, resolve

SPLITS: dict[str, Split] = {"test": "test", "profile": "profile", "all": "all"}


@dataclass(frozen=True)
class Request:
    """An evaluation as it is asked for; see `cokv-bench eval --help` for the fields."""

    tasks: list[str]
    methods: list[str]
    budgets: list[int]
    split: str = "test"
    seed: int = 0
    window: int = 8
    kernel: int = 7
    pooling: str = "max"
    published_rounding: bool = False
    encoding: Encoding = field(default_factory=Encoding)
    sources: Sources = field(default_factory=Sources)
    task_options: TaskOptions = field(default_factory=TaskOptions)

    def check(self) -> None:
        """Refuse at once what needs no model to be refused.

        Raises:
            RequestError: an unknown method or split, a budget that is not above the window, or a bad option.
        """
        if self.split not in SPLITS:
            raise unknown("split", self.split, SPLITS)
        for budget in self.budgets:
            check_budget(budget, self.window)
        for method in self.methods:
            self.policy(method, None)

    def policy(self, method: str, budgets: StaticBudgets | None) -> Policy:
        """The policy of a method with this request's options, as far as the method takes them."""
        if method not in POLICIES:
            raise unknown("method", method, POLICIES)
        wanted = {
            "kernel": self.kernel,
            "pooling": self.pooling,
            "seed": self.seed,
            "published_rounding": self.published_rounding,
            **({} if budgets is None else {"budgets": budgets.tokens}),
        }
        taken = POLICIES[method].options
        return get_policy(method, **{name: value for name, value in wanted.items() if name in taken})


def plan_request(request: Request, model: Model) -> Plan:
    """Lay a request out on a model.

    Raises:
        RequestError: whatever is unknown, missing or does not fit, in one sentence.
    """
    request.check()
    tasks = resolve(request.tasks, model, request.task_options)
    static = {
        method: static_budgets(
            method,
            model,
            request.budgets,
            [task.name for task in tasks],
            window=request.window,
            published_rounding=request.published_rounding,
            sources=request.sources,
        )
        for method in request.methods
        if method in STATIC_METHODS
    }
    if request.split != "test":
        _refuse_own_tasks(request, static)
    return make_plan(
        model,
        tasks,
        {
            task.name: [request.policy(method, static.get(method, {}).get(task.name)) for method in request.methods]
            for task in tasks
        },
        request.budgets,
        window=request.window,
        split=SPLITS[request.split],
        seed=request.seed,
        encoding=request.encoding,
        settings={
            "kernel": request.kernel,
            "pooling": request.pooling,
            "published_rounding": request.published_rounding,
            "head_budgets": {method: _description(sources) for method, sources in static.items()},
        },
        profiled={
            method: [example for source in sources.values() for example in source.examples]
            for method, sources in static.items()
        },
    )


def _description(sources: Mapping[str, StaticBudgets]) -> Any:
    """What decides a method's budgets: one description where all tasks have the same, else one a task."""
    described = {task: source.description for task, source in sources.items()}
    first = next(iter(described.values()))
    return first if all(each == first for each in described.values()) else described


def _refuse_own_tasks(request: Request, static: Mapping[str, Mapping[str, StaticBudgets]]) -> None:
    """Needles are drawn anew for each length and depth, so those of the profile split count as seen as a whole."""
    for method, sources in static.items():
        seen = {task for source in sources.values() for task in source.tasks}
        shared = sorted(seen & {*request.tasks, *sources})
        if shared:
            raise RequestError(
                f"The budgets of '{method}' were made from the profile split of {', '.join(shared)}, which the split "
                f"'{request.split}' contains; evaluate on the split 'test'."
            )
