"""From what a user asks for to a plan: names resolved and everything checked before any work."""

from dataclasses import dataclass, field

from cokv_bench.errors import RequestError, unknown
from cokv_bench.models import Model
from cokv_bench.policies import POLICIES, Policy, get_policy
from cokv_bench.policies.policy import check_budget
from cokv_bench.runs.plan import Plan, make_plan
from cokv_bench.runs.sources import STATIC_METHODS, Sources, StaticBudgets, static_budgets
from cokv_bench.tasks import Split
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
    max_length: int | None = None
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
    static = {
        method: static_budgets(
            method,
            model,
            request.budgets,
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
        resolve(request.tasks, model, request.task_options),
        [request.policy(method, static.get(method)) for method in request.methods],
        request.budgets,
        window=request.window,
        split=SPLITS[request.split],
        seed=request.seed,
        max_length=request.max_length,
        settings={
            "kernel": request.kernel,
            "pooling": request.pooling,
            "published_rounding": request.published_rounding,
            "head_budgets": {method: source.description for method, source in static.items()},
        },
        profiled={method: source.examples for method, source in static.items()},
    )


def _refuse_own_tasks(request: Request, static: dict[str, StaticBudgets]) -> None:
    """Needles are drawn anew for each length and depth, so those of the profile split count as seen as a whole."""
    for method, source in static.items():
        shared = sorted(set(source.tasks) & set(request.tasks))
        if shared:
            raise RequestError(
                f"The budgets of '{method}' were made from the profile split of {', '.join(shared)}, which the split "
                f"'{request.split}' contains; evaluate on the split 'test'."
            )
