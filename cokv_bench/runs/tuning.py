"""Choosing the knobs of the methods on the profile split, so that every baseline is run as well as it can be run."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from cokv_bench.budgets.knobs import Knobs, Options, Tried, Tuning
from cokv_bench.errors import RequestError
from cokv_bench.game.head_game import ExampleProgress, Game
from cokv_bench.kvcache import Prompt, Selection
from cokv_bench.log import differences
from cokv_bench.policies import Policy, find_method
from cokv_bench.policies.policy import check_budget
from cokv_bench.runs.contents import as_kept
from cokv_bench.tasks.base import contents, made_from
from cokv_bench.tasks.prompts import reading

#: Knobs that are tried together; one group after the other, each at the best setting of those before. The queries that
#: rank and the kernel belong together: RULER's answers want a wide kernel, and 32 queries are best with it alone. At
#: small budgets a wide kernel is best only with the maximum over the queries: asked after the kernel, it is not found.
#: How many of the queries are kept is asked next, with their number. Knobs of no group come last, one by one.
GROUPS = (
    ("observe", "kernel", "pooling", "queries", "sinks"),
    ("window", "observe"),
    ("alpha", "beta"),
    ("safeguard",),
)
#: The smallest window that is tried.
SMALLEST_WINDOW = 4
# Settings that differ, as many as a refusal names.
_TOLD = 2

#: (method, options) -> the policy, with its head budgets where it has some.
MakePolicy = Callable[[str, Options], Policy]


def tunable(methods: Sequence[str]) -> list[str]:
    """Those of the methods that have a knob to tune."""
    return [method for method in methods if candidates(method)]


def candidates(method: str, window: int | None = None) -> dict[str, tuple[Any, ...]]:
    """What is tried for each knob of a method, by name, the published setting first: of equally good ones it is kept.

    None stands for what the method's head file says. What a method's scorer and allocator declare (`Method.tried`).

    Args:
        window: the only one that is wanted; None for all that are declared.
    """
    # A setting says its window in any case: with another one it would mean something else.
    only = {} if window is None else {"window": (window,)}
    return {knob: only.get(knob, values) for knob, values in find_method(method).tried.items()}


def largest_window(methods: Sequence[str], usual: int, window: int | None = None) -> int:
    """The largest window, or number of queries observed, that is tried: prompts are prefilled with it.

    Args:
        usual: of methods without one of their own.
        window: the only one that is wanted; None for all that are declared.
    """
    tried = [
        value
        for method in methods
        for knob in ("window", "observe")
        for value in candidates(method, window).get(knob, ())
    ]
    named = [find_method(method).fixed.get(knob) for method in methods for knob in ("window", "observe")]
    return max(each or usual for each in (usual, *tried, *named))


def tune(
    game: Game,
    methods: Sequence[str],
    budgets: Sequence[int],
    make: MakePolicy,
    *,
    window: int | None = None,
    heads: Mapping[str, str] | None = None,
    progress: ExampleProgress = lambda done, total: None,
) -> Tuning:
    """Try the knobs of each method at each budget on a game's examples, which are prefilled once.

    A coordinate search over groups of knobs (`GROUPS`), each as a grid at the best setting so far. The game's utility
    decides.

    Args:
        game: on the profile split of one benchmark, with prompts prefilled with the `largest_window`.
        methods: of `tunable`.
        budgets: those that are not below the shortest prompt are left out.
        window: the only one that is wanted; None tries several.
        heads: hashes of the head files that the policies' budgets come from, by method.
        progress: called with passes over an example that are done, and with their number at most.

    Raises:
        RequestError: no method, no budget below the shortest prompt, or one that is not above the first window.
    """
    for budget in budgets:
        check_budget(budget, SMALLEST_WINDOW if window is None else window)
    cells = _cells(game, methods, budgets)
    tried: dict[tuple[str, int], list[Tried]] = {cell: [] for cell in cells}
    groups = _groups(methods)
    for number, group in enumerate(groups):
        trials = [
            (method, budget, options)
            for method, budget in cells
            for options in _settings(
                _within(candidates(method, window), budget, game.players), group, tried[method, budget]
            )
        ]
        if not trials:
            continue

        def step(done: int, total: int, number: int = number) -> None:
            progress(number * total + done, len(groups) * total)

        means = game.measure(_select(trials, make), step).mean(axis=1)
        for (method, budget, options), mean in zip(trials, means, strict=True):
            tried[method, budget].append(Tried(options, float(mean)))
    return Tuning(
        **made_from(game.rows),
        utility=game.utility.name,
        curves={
            method: {budget: tried[method, budget] for budget in budgets if (method, budget) in tried}
            for method in methods
        },
        heads=dict(heads or {}),
        settings=_settings_of(game, window),
    )


def kept(path: Path, header: Knobs, utility: str, benchmarks: Collection[str]) -> Knobs:
    """What a file already holds, where an earlier call had the same model, window and kind of prompt.

    Args:
        header: knobs of this call, without a benchmark yet.
        utility: that decides in this call, for these benchmarks; others of the file may have another.

    Raises:
        RequestError: the file is there and holds something else.
    """
    if not path.exists():
        return header
    file = Knobs.load(path)
    _refuse_other(path, *map(_of_all, (file, header)))
    for name in benchmarks:
        if name in file.benchmarks and file.benchmarks[name].utility != utility:
            raise RequestError(
                f"{path} holds knobs of {name} that {file.benchmarks[name].utility} has chosen, not {utility}; "
                "name another file with --out."
            )
    return file


def _of_all(knobs: Knobs) -> dict[str, Any]:
    """What all benchmarks of a file share."""
    return {
        "weights": knobs.model["weights"],
        "window": knobs.window,
        "question_agnostic": knobs.question_agnostic,
    }


def _refuse_other(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises `RequestError` with the settings that differ, as many as a sentence holds."""
    told = differences(found, wanted, width=30)
    if told:
        more = f" and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
        raise RequestError(
            f"{path} holds knobs chosen with other settings: {'; '.join(told[:_TOLD])}{more}; name another file with "
            "--out."
        )


def untried(
    path: Path,
    tuning: Tuning | None,
    game: Game,
    methods: Sequence[str],
    budgets: Sequence[int],
    heads: Mapping[str, str],
    window: int | None = None,
) -> list[str]:
    """The methods of which some setting was not tried at some budget, on this game's examples and with these heads.

    Args:
        path: of the file that holds the tuning.
        heads, window: as for `tune`.

    Raises:
        RequestError: as `tune` does for methods and budgets that leave nothing to try; the file holds utilities of
            other settings on the same examples; or it holds curves that would be lost, of other examples or head files.
    """
    cells = _cells(game, methods, budgets)
    if tuning is None:
        return list(methods)
    same = tuning.examples == made_from(game.rows)["examples"]
    changed = {method for method in methods if tuning.heads.get(method) != heads.get(method)}
    lost = [
        (method, budget)
        for method, curves in tuning.curves.items()
        for budget in curves
        if (not same or method in changed) and (method, budget) not in cells
    ]
    if lost:
        method, budget = lost[0]
        raise RequestError(
            f"{path} holds curves of other {'head files' if same else 'examples'}, which would be lost: "
            f"{len(lost)} of them, such as '{method}' at {budget}. Name another file with --out, or all of these "
            "methods and budgets."
        )
    if not same:
        return list(methods)
    if tuning.settings:
        _refuse_other(path, tuning.settings, as_kept(_settings_of(game, window), tuning.settings))
    covered = {cell for cell in cells if _covered(tuning.curves.get(cell[0], {}).get(cell[1], ()), *cell, game, window)}
    return [
        method for method in methods if method in changed or any(c[0] == method and c not in covered for c in cells)
    ]


def _covered(tried: Sequence[Tried], method: str, budget: int, game: Game, window: int | None) -> bool:
    """Whether the grid of each group of knobs was tried."""
    knobs = _within(candidates(method, window), budget, game.players)
    complete = [{**{knob: values[0] for knob, values in knobs.items()}, **each.options} for each in tried]
    grids = [[knob for knob in group if knob in knobs] for group in _groups([method])]
    return bool(tried) and all(
        {tuple(options[knob] for knob in grid) for options in complete} >= set(product(*(knobs[knob] for knob in grid)))
        for grid in grids
    )


def _settings_of(game: Game, window: int | None) -> dict[str, Any]:
    """What decides the utilities of a tuning beside model, examples and head files, as JSON.

    Args:
        window: the only one that was asked for.
    """
    tasks = {task.name: task for task, _ in game.rows}
    texts = contents(game.rows)
    settings = {
        "window": window,
        "max_length": game.encoding.max_length,
        "reading": reading(game.model, [example for _, example in game.rows], game.encoding),
        "tasks": {
            name: {"version": task.version, "rules": getattr(task, "rules_digest", None), "contents": texts[name]}
            for name, task in tasks.items()
        },
    }
    found: dict[str, Any] = json.loads(json.dumps(settings))
    return found


def merged(earlier: Tuning | None, found: Tuning) -> Tuning:
    """What was found, with what an earlier call found of other methods, and at other budgets, on the same examples."""
    if earlier is None or earlier.examples != found.examples:
        return found
    curves = {method: dict(by_budget) for method, by_budget in earlier.curves.items()}
    for method, by_budget in found.curves.items():
        before = curves.get(method, {}) if earlier.heads.get(method) == found.heads.get(method) else {}
        curves[method] = dict(sorted({**before, **by_budget}.items()))
    return replace(found, curves=curves, heads={**earlier.heads, **found.heads})


def _cells(game: Game, methods: Sequence[str], budgets: Sequence[int]) -> list[tuple[str, int]]:
    """The methods at the budgets that are below the shortest prompt. Raises `RequestError` if there are none."""
    shortest = game.shortest_prompt()
    cells = [(method, budget) for method in methods for budget in budgets if budget < shortest]
    if not cells:
        raise RequestError(
            "There is nothing to tune: name a method that has a knob, and a budget below the shortest prompt, "
            f"{shortest} tokens."
        )
    return cells


def _groups(methods: Sequence[str]) -> list[tuple[str, ...]]:
    grouped = {knob for group in GROUPS for knob in group}
    others = dict.fromkeys(knob for method in methods for knob in candidates(method) if knob not in grouped)
    return [*GROUPS, *((knob,) for knob in others)]


def _within(knobs: Mapping[str, Sequence[Any]], budget: int, players: int) -> dict[str, Sequence[Any]]:
    """The candidates that a budget and a model have room for."""
    limits = {"window": budget, "alpha": players}
    return {
        knob: [value for value in values if value is None or knob not in limits or value < limits[knob]]
        for knob, values in knobs.items()
    }


def _settings(knobs: Mapping[str, Sequence[Any]], group: Sequence[str], tried: Sequence[Tried]) -> list[dict[str, Any]]:
    """The grid of a group's knobs around the best setting so far, without what was tried."""
    mine = [knob for knob in group if knob in knobs]
    if not mine:
        return []

    def complete(options: Options) -> dict[str, Any]:
        return {**{knob: values[0] for knob, values in knobs.items()}, **options}

    # Every setting says its window, since what is published differs between methods and may not fit the budget.
    first = {"window": knobs["window"][0]} if "window" in knobs else {}
    best = max(tried, key=lambda each: each.utility).options if tried else first
    known = [complete(each.options) for each in tried]
    grid = [{**best, **dict(zip(mine, values, strict=True))} for values in product(*(knobs[knob] for knob in mine))]
    return [
        {knob: value for knob, value in options.items() if value is not None}
        for options in grid
        if complete(options) not in known
    ]


def _select(trials: Sequence[tuple[str, int, Options]], make: MakePolicy) -> Callable[[Prompt], Sequence[Selection]]:
    policies = [(make(method, options), budget) for method, budget, options in trials]

    def select(prompt: Prompt) -> Sequence[Selection]:
        before = set(prompt.memo)
        found = [policy.select(prompt, budget) for policy, budget in policies]
        # A hundred rankings of each prompt would stay in memory, and no later group asks for them.
        for key in set(prompt.memo) - before:
            del prompt.memo[key]
        return found

    return select
