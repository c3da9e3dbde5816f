"""From what a user asks for to a plan: names resolved and everything checked before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cokv_bench.errors import RequestError, unknown
from cokv_bench.models import Model
from cokv_bench.policies import POLICIES, Policy, get_policy
from cokv_bench.policies.policy import check_budget
from cokv_bench.runs.grid import Grid
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.knobs import ChosenKnobs, find_knobs
from cokv_bench.runs.overlap import Seen, used_by
from cokv_bench.runs.plan import Plan, make_plan, variants_of
from cokv_bench.runs.sources import STATIC_METHODS, StaticBudgets, static_budgets
from cokv_bench.tasks import Split, Task
from cokv_bench.tasks.base import OfRows
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.registry import resolve

# How SnapKV and the methods that rank like it look and pool, where nobody says otherwise.
_RANKING = {"window": 8, "kernel": 7, "pooling": "max"}
_AS_PUBLISHED: Mapping[str, Any] = {}
SPLITS: dict[str, Split] = {"test": "test", "profile": "profile", "report": "report", "all": "all"}


@dataclass(frozen=True)
class Request:
    """An evaluation as it is asked for."""

    grid: Grid = field(default_factory=Grid)
    tasks: TaskOptions = field(default_factory=TaskOptions)
    encoding: Encoding = field(default_factory=Encoding)
    heads: HeadSources = field(default_factory=HeadSources)

    def check(self) -> None:
        """Refuse at once what needs no model to be refused.

        Raises:
            RequestError: an unknown method or split, a budget that is not above any window, or a bad option.
        """
        if self.grid.split not in SPLITS:
            raise unknown("split", self.grid.split, SPLITS)
        for budget in self.grid.budgets:
            check_budget(budget, self.grid.window or 1)
        for method in self.grid.methods:
            self.policy(method, None)

    def policy(self, method: str, budgets: StaticBudgets | None, knobs: Mapping[str, Any] = _AS_PUBLISHED) -> Policy:
        """The policy of a method with this request's options, as far as the method takes them.

        Args:
            knobs: the method's chosen options; what is asked for comes first.
        """
        taken = POLICIES.get(method).options
        ranking = self.ranking(budgets, knobs)
        wanted = {**knobs, **ranking, "seed": self.tasks.seed, "published_rounding": self.grid.published_rounding}
        if budgets is not None:
            wanted["budgets"] = partial(budgets.tokens, window=ranking["window"], knobs=knobs)
        return get_policy(method, **{name: value for name, value in wanted.items() if name in taken})

    def ranking(self, budgets: StaticBudgets | None = None, knobs: Mapping[str, Any] = _AS_PUBLISHED) -> dict[str, Any]:
        """How a method ranks tokens: as asked for, as its budgets were made for, as chosen, or as SnapKV does.

        Window, kernel and pooling.
        """
        asked = {"window": self.grid.window, "kernel": self.grid.kernel, "pooling": self.grid.pooling}
        made_for = {} if budgets is None else budgets.ranking
        chosen = {name: knobs[name] for name in _RANKING if name in knobs}
        return {**_RANKING, **chosen, **made_for, **{name: value for name, value in asked.items() if value is not None}}


def plan_request(request: Request, model: Model) -> Plan:
    """Lay a request out on a model.

    Raises:
        RequestError: whatever is unknown, missing or does not fit, in one sentence.
    """
    request.check()
    grid = request.grid
    tasks = resolve(request.tasks.names, model, request.tasks)
    static = {
        method: static_budgets(
            method,
            model,
            grid.budgets,
            [task.name for task in tasks],
            window=grid.window,
            published_rounding=grid.published_rounding,
            sources=request.heads,
        )
        for method in grid.methods
        if method in STATIC_METHODS
    }
    knobs = find_knobs(grid.knobs, model, grid.window, request.encoding.question_agnostic, grid.split)
    if grid.split in ("profile", "all"):
        _refuse_own_tasks(request, tasks, static, knobs)

    def policy(method: str, task: str, budget: int | None) -> Policy:
        mine = static.get(method, {}).get(task)
        return request.policy(method, mine, knobs.options(method, task, budget, mine))

    plan = make_plan(
        model,
        tasks,
        {
            task.name: variants_of(
                {method: partial(policy, method, task.name) for method in grid.methods}, grid.budgets
            )
            for task in tasks
        },
        grid.budgets,
        window=request.ranking()["window"],
        split=SPLITS[grid.split],
        seed=request.tasks.seed,
        encoding=request.encoding,
        settings={
            **request.ranking(),
            "published_rounding": grid.published_rounding,
            **knobs.description(
                [task.name for task in tasks],
                grid.budgets,
                {each: static.get(each) for each in grid.methods},
            ),
            "head_budgets": {method: _description(request, sources) for method, sources in static.items()},
        },
        profiled={
            **{
                f"budgets of '{method}'": Seen(
                    frozenset(example for source in sources.values() for example in source.examples),
                    frozenset(document for source in sources.values() for document in source.documents),
                )
                for method, sources in static.items()
            },
            **({} if knobs.file is None else {"knobs": knobs.seen}),
        },
        leave_out_seen=grid.leave_out_seen,
        used=used_by(grid.leave_out_runs),
    )
    return plan.measuring(grid.utility)


def _description(request: Request, sources: Mapping[str, StaticBudgets]) -> Any:
    """What decides a method's budgets: one description where all tasks have the same, else one a task.

    Window, kernel and pooling are told where the budgets were made for others than the other methods have.
    """
    described = {}
    for task, source in sources.items():
        ranking = request.ranking(source)
        own = {name: value for name, value in ranking.items() if value != request.ranking()[name]}
        described[task] = {**source.description, **own}
    first = next(iter(described.values()))
    return first if all(each == first for each in described.values()) else described


def _refuse_own_tasks(
    request: Request,
    tasks: Sequence[Task],
    static: Mapping[str, Mapping[str, StaticBudgets]],
    knobs: ChosenKnobs,
) -> None:
    """Needles are drawn again for each length and depth, so those of the profile split count as seen as a whole.

    Rows stay what they are: where what was seen is left out, the others may be evaluated.
    """
    exact = {task.name for task in tasks if request.grid.leave_out_seen and isinstance(task, OfRows)}
    asked = {*request.tasks.names, *(task.name for task in tasks)}
    made = {
        f"budgets of '{method}'": {task for source in sources.values() for task in source.tasks}
        for method, sources in static.items()
    }
    for subject, seen in {**made, "knobs": knobs.tasks}.items():
        shared = sorted((seen & asked) - exact)
        if shared:
            raise RequestError(
                f"The {subject} were made from the profile split of {', '.join(shared)}, which the split "
                f"'{request.grid.split}' contains; evaluate on the split 'test' or 'report'."
            )
