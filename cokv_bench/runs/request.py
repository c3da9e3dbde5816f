"""From what a user asks for to a plan: names resolved and everything checked before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cokv_bench.errors import RequestError, unknown
from cokv_bench.models import Model
from cokv_bench.policies import POLICIES, Policy, get_policy
from cokv_bench.policies.policy import check_budget
from cokv_bench.runs.knobs import TUNED, ChosenKnobs, find_knobs
from cokv_bench.runs.overlap import Seen, used_by
from cokv_bench.runs.plan import Plan, make_plan, variants_of
from cokv_bench.runs.sources import STATIC_METHODS, Sources, StaticBudgets, static_budgets
from cokv_bench.tasks import Split, Task
from cokv_bench.tasks.base import OfRows
from cokv_bench.tasks.prompts import Encoding
from cokv_bench.tasks.registry import TaskOptions, resolve

# How SnapKV and the methods that rank like it look and pool, where nobody says otherwise.
_RANKING = {"window": 8, "kernel": 7, "pooling": "max"}
_AS_PUBLISHED: Mapping[str, Any] = {}
SPLITS: dict[str, Split] = {"test": "test", "profile": "profile", "report": "report", "all": "all"}


@dataclass(frozen=True)
class Request:
    """An evaluation as it is asked for; see `cokv-bench eval --help` for the fields.

    Attributes:
        window: observation window of all methods; None for each method's own.
        kernel, pooling: of all methods that pool window scores; None for each method's own.
        knobs: which settings the methods have: "tuned" (chosen on profile examples, where the model has such a choice),
            "papers" (as published), or a file of `cokv-bench tune`.
        leave_out_seen: leave out, for all methods alike, what any method's head file was made from, and all else of the
            same documents; else such examples are refused.
        leave_out_runs: folders of earlier runs, whose examples are left out: for a judgement on what nobody has seen.
    """

    tasks: list[str]
    methods: list[str]
    budgets: list[int]
    split: str = "test"
    leave_out_seen: bool = False
    leave_out_runs: tuple[Path, ...] = ()
    seed: int = 0
    window: int | None = None
    kernel: int | None = None
    pooling: str | None = None
    published_rounding: bool = False
    knobs: str = TUNED
    encoding: Encoding = field(default_factory=Encoding)
    sources: Sources = field(default_factory=Sources)
    task_options: TaskOptions = field(default_factory=TaskOptions)

    def check(self) -> None:
        """Refuse at once what needs no model to be refused.

        Raises:
            RequestError: an unknown method or split, a budget that is not above any window, or a bad option.
        """
        if self.split not in SPLITS:
            raise unknown("split", self.split, SPLITS)
        for budget in self.budgets:
            check_budget(budget, self.window or 1)
        for method in self.methods:
            self.policy(method, None)

    def policy(self, method: str, budgets: StaticBudgets | None, knobs: Mapping[str, Any] = _AS_PUBLISHED) -> Policy:
        """The policy of a method with this request's options, as far as the method takes them.

        Args:
            knobs: the method's chosen options; what is asked for comes first.
        """
        taken = POLICIES.get(method).options
        ranking = self.ranking(budgets, knobs)
        wanted = {**knobs, **ranking, "seed": self.seed, "published_rounding": self.published_rounding}
        if budgets is not None:
            wanted["budgets"] = partial(budgets.tokens, window=ranking["window"], knobs=knobs)
        return get_policy(method, **{name: value for name, value in wanted.items() if name in taken})

    def ranking(self, budgets: StaticBudgets | None = None, knobs: Mapping[str, Any] = _AS_PUBLISHED) -> dict[str, Any]:
        """How a method ranks tokens: as asked for, as its budgets were made for, as chosen, or as SnapKV does.

        Window, kernel and pooling.
        """
        asked = {"window": self.window, "kernel": self.kernel, "pooling": self.pooling}
        made_for = {} if budgets is None else budgets.ranking
        chosen = {name: knobs[name] for name in _RANKING if name in knobs}
        return {**_RANKING, **chosen, **made_for, **{name: value for name, value in asked.items() if value is not None}}


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
    knobs = find_knobs(request.knobs, model, request.window, request.encoding.question_agnostic, request.split)
    if request.split in ("profile", "all"):
        _refuse_own_tasks(request, tasks, static, knobs)

    def policy(method: str, task: str, budget: int | None) -> Policy:
        mine = static.get(method, {}).get(task)
        return request.policy(method, mine, knobs.options(method, task, budget, mine))

    return make_plan(
        model,
        tasks,
        {
            task.name: variants_of(
                {method: partial(policy, method, task.name) for method in request.methods}, request.budgets
            )
            for task in tasks
        },
        request.budgets,
        window=request.ranking()["window"],
        split=SPLITS[request.split],
        seed=request.seed,
        encoding=request.encoding,
        settings={
            **request.ranking(),
            "published_rounding": request.published_rounding,
            **knobs.description(
                [task.name for task in tasks], request.budgets, {each: static.get(each) for each in request.methods}
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
        leave_out_seen=request.leave_out_seen,
        used=used_by(request.leave_out_runs),
    )


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
    exact = {task.name for task in tasks if request.leave_out_seen and isinstance(task, OfRows)}
    asked = {*request.tasks, *(task.name for task in tasks)}
    made = {
        f"budgets of '{method}'": {task for source in sources.values() for task in source.tasks}
        for method, sources in static.items()
    }
    for subject, seen in {**made, "knobs": knobs.tasks}.items():
        shared = sorted((seen & asked) - exact)
        if shared:
            raise RequestError(
                f"The {subject} were made from the profile split of {', '.join(shared)}, which the split "
                f"'{request.split}' contains; evaluate on the split 'test' or 'report'."
            )
