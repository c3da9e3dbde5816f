"""From what a user asks for to a plan: names resolved and everything checked before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from cokv_bench.budget import Budget, PromptShare, in_tokens, tokens_of
from cokv_bench.budgets.knobs import Options
from cokv_bench.errors import RequestError
from cokv_bench.models import Model
from cokv_bench.policies import Policy, find_method
from cokv_bench.policies.names import each_once
from cokv_bench.policies.policy import check_budget
from cokv_bench.runs.grid import Grid
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.knobs import ChosenKnobs, find_knobs
from cokv_bench.runs.methods import AS_PUBLISHED, MethodSettings
from cokv_bench.runs.overlap import Seen, used_by
from cokv_bench.runs.plan import Plan, make_plan, variants_of
from cokv_bench.runs.sources import StaticBudgets, refuse_unread, static_budgets
from cokv_bench.tasks import Split, Task
from cokv_bench.tasks.base import OfRows
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.prompts import encode_parts
from cokv_bench.tasks.registry import resolve


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
        self.grid.check()
        for budget in in_tokens(self.grid.budgets):
            check_budget(budget, self.grid.window or 1)
        self.shared.check(self.grid.methods, self.grid.budgets)
        refuse_unread(self.grid.methods, self.heads)

    @property
    def shared(self) -> MethodSettings:
        """What it asks of all methods alike."""
        grid = self.grid
        return MethodSettings(
            grid.window, grid.kernel, grid.pooling, grid.published_rounding, self.tasks.seed, grid.sinks
        )

    def policy(self, method: str, heads: StaticBudgets | None, knobs: Options = AS_PUBLISHED) -> Policy:
        """The policy of a method in this run, see `MethodSettings.policy`."""
        return self.shared.policy(method, heads, knobs)


def plan_request(request: Request, model: Model) -> Plan:
    """Lay a request out on a model.

    Raises:
        RequestError: whatever is unknown, missing or does not fit, in one sentence.
    """
    request.check()
    grid, methods = request.grid, each_once(request.grid.methods)
    tasks = resolve(request.tasks.names, model, grid.with_questions(request.tasks))
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
        for method in methods
        if find_method(method).rule is not None
    }
    knobs = find_knobs(grid.knobs, model, grid.window, request.encoding.question_agnostic, grid.split, grid.sinks)
    if grid.split in ("profile", "all"):
        _refuse_own_tasks(request, tasks, static, knobs)

    lengths = _prompt_lengths(request, tasks, model)
    sizes = {task: sorted(of_task.values()) for task, of_task in lengths.items()}

    def policy(method: str, task: str, budget: Budget | None) -> Policy:
        mine, prompts = static.get(method, {}).get(task), sizes.get(task, ())
        options = knobs.options(method, task, budget, mine, prompts)
        window = request.shared.ranking(method, mine, options)["window"]
        least = tokens_of(budget, min(prompts, default=0))
        made = request.policy(method, mine, options)
        # What its head file cannot give, such as more heads than there are, is refused before a run begins.
        if mine is not None and least is not None and least > window + made.sinks:
            mine.tokens(least, window=window + made.sinks, knobs=options)
        return made

    plan = make_plan(
        model,
        tasks,
        {
            task.name: variants_of({method: partial(policy, method, task.name) for method in methods}, grid.budgets)
            for task in tasks
        },
        grid.budgets,
        window=request.shared.ranking()["window"],
        split=cast(Split, grid.split),
        seed=request.tasks.seed,
        encoding=request.encoding,
        settings={
            **request.shared.ranking(),
            "published_rounding": grid.published_rounding,
            **request.shared.published_windows(methods),
            **({} if grid.sinks is None else {"sinks": grid.sinks}),
            **knobs.description(
                [task.name for task in tasks],
                grid.budgets,
                {each: static.get(each) for each in methods},
                sizes,
            ),
            "head_budgets": {method: request.shared.description(method, found) for method, found in static.items()},
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
        used=used_by(grid.leave_out_runs, grid.questions_per_context),
        utility=grid.utility,
    )
    _check_shares(plan, lengths, request.shared.ranking()["window"])
    return plan


def _prompt_lengths(request: Request, tasks: Sequence[Task], model: Model) -> dict[str, dict[str, int]]:
    """Tokens of each example's prompt, by task and id; empty where no budget is a share of them."""
    if not any(isinstance(budget, PromptShare) for budget in request.grid.budgets):
        return {}
    examples = {task.name: task.examples(cast(Split, request.grid.split)) for task in tasks}
    return {
        task: {row.id: len(encode_parts(model, row, request.encoding).prompt) for row in rows}
        for task, rows in examples.items()
    }


def _check_shares(plan: Plan, lengths: Mapping[str, Mapping[str, int]], window: int) -> None:
    """Refuse a share that is not above the window in some prompt; the shortest ones come last."""
    for part in (part for job in reversed(plan.jobs) for part in job.parts):
        for variant in part.variants:
            if isinstance(variant.budget, PromptShare):
                tokens = lengths[part.task][part.example.id]
                try:
                    variant.policy.check_budget(variant.budget.of(tokens), variant.policy.window or window)
                except RequestError as error:
                    where = f"{variant.budget} of a prompt of '{part.task}' with {tokens} tokens"
                    raise RequestError(f"'{variant.method}' at {where}: {error}") from None


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
