"""Where the budgets of CoKV, CoKV-Search and HeadKV come from: files, a profile, or what is embedded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets import HeadBudgets, HeadScores, HeadShares, HeadValues, embedded
from cokv_bench.budgets.fingerprint import check_same_model
from cokv_bench.budgets.from_profile import values_path
from cokv_bench.budgets.knobs import Options
from cokv_bench.errors import RequestError
from cokv_bench.files import file_sha256
from cokv_bench.models import Model
from cokv_bench.runs.heads import HeadSources

#: Methods whose budgets are known before the prompt, and what makes them where nothing is embedded.
STATIC_METHODS = {
    "cokv": "run `cokv-bench profile` and name its folder with --profile, or a budget JSON with --budgets",
    "headkv": "name a file of head scores with --head-scores (`cokv-bench head-scores` makes one), "
    "or a budget JSON with --budgets",
    "cokv-search": "run `cokv-bench search` and name its folder with --shares, or a budget JSON with --budgets",
}


class HeadRule(Protocol):
    """From a budget to the tokens of each head."""

    def __call__(self, budget: int, *, window: int, knobs: Options) -> NDArray[np.int64]:
        """int64 [layers, kv_heads], window included; of the method's knobs it reads its own."""
        ...


@dataclass(frozen=True)
class StaticBudgets:
    """Budgets of one method.

    Attributes:
        tokens: the rule.
        description: what decides them, for a run's configuration.
        examples: ids of the examples that they were made from.
        tasks: names of the tasks of these examples.
        file: hash of the head values or head scores that the rule turns into budgets; empty where it has no knobs.
        ranking: window, kernel and pooling that they were made for, where they depend on it.
        documents: of these examples; empty where a file of an earlier version does not say.
    """

    tokens: HeadRule
    description: dict[str, Any]
    examples: tuple[str, ...]
    tasks: tuple[str, ...]
    ranking: Mapping[str, Any] = field(default_factory=dict)
    documents: tuple[str, ...] = ()
    file: str = ""


def static_budgets(
    method: str,
    model: Model,
    budgets: Sequence[int],
    tasks: Sequence[str],
    *,
    window: int | None,
    published_rounding: bool,
    sources: HeadSources,
) -> dict[str, StaticBudgets]:
    """Find the budgets of a method for a model and each task.

    Named budget files come first, then head values, shares or scores, then what is embedded. Of several files each
    serves the tasks that it was made from (CoKV profiles every task on its own); one alone serves all.

    Args:
        window: the one that is asked for, None for any.

    Raises:
        RequestError: nothing serves this model or a task, a file is of another model, shape, window or sum, or a budget
            that is asked for is in no file.
    """
    files = [(path, HeadBudgets.load(path)) for path in sources.budget_files]
    mine = [(path, file) for path, file in files if file.method in (None, method)]
    if mine:
        for path, file in mine:
            _check_file(path, file, model, window)
        return {task: _from_files(method, budgets, mine, task) for task in tasks}
    if method == "headkv":
        scores = _from_scores(model, published_rounding, sources)
        return dict.fromkeys(tasks, scores)
    if method == "cokv-search":
        return dict.fromkeys(tasks, _from_shares(model, sources))
    profiles = [_from_values(path, model, published_rounding, sources.zeroed) for path in sources.profiles]
    found = profiles or [_from_values(None, model, published_rounding, sources.zeroed)]
    return {task: _of_task(found, task, "profile", "--profile") for task in tasks}


def _of_task(found: list[StaticBudgets], task: str, what: str, option: str) -> StaticBudgets:
    """The only source, or of several the one that was made from the task."""
    fitting = found if len(found) == 1 else [source for source in found if task in source.tasks]
    if len(fitting) != 1:
        known = sorted({name for source in found for name in source.tasks})
        said = f"{len(fitting)} of the {len(found)} are" if fitting else f"none of the {len(found)} is"
        raise RequestError(
            f"Several sources were given, and for each task one {what} must be made from it: for '{task}' {said} "
            f"(they are of {', '.join(known)}); name one with {option}, or one alone for all tasks."
        )
    return fitting[0]


def _check_file(path: Path, file: HeadBudgets, model: Model, window: int | None) -> None:
    file.check_model(model.fingerprint)
    if window not in (None, file.window):
        raise RequestError(
            f"The budget file {path} was made for a window of {file.window} tokens, and this run has {window}; "
            f"run with --window {file.window} or make the budgets anew."
        )


def _from_files(method: str, budgets: Sequence[int], files: list[tuple[Path, HeadBudgets]], task: str) -> StaticBudgets:
    chosen: dict[int, StaticBudgets] = {}
    for budget in budgets:
        found = [
            StaticBudgets(
                fixed_tokens({budget: file.tokens}),
                {"sha256": file_sha256(path)},
                file.examples,
                file.tasks,
                _ranking(file),
                file.documents,
            )
            for path, file in files
            if file.budget == budget
        ]
        if not found:
            raise RequestError(
                f"No budget file of '{method}' is for a budget of {budget}; there is "
                f"{sorted({file.budget for _, file in files})}: make the missing one with "
                f"`cokv-bench {'search' if method == 'cokv-search' else 'budgets'}`."
            )
        chosen[budget] = _of_task(found, task, f"budget file of {budget} tokens", "--budgets")
    rankings = [source.ranking for source in chosen.values()]
    if any(ranking != rankings[0] for ranking in rankings):
        raise RequestError(
            f"The budget files of '{method}' were made for several ways to rank tokens ({rankings}); name files "
            "of one search, or of one window."
        )
    return StaticBudgets(
        lambda budget, *, window, knobs: chosen[budget].tokens(budget, window=window, knobs=knobs),
        {"files": {str(budget): source.description["sha256"] for budget, source in chosen.items()}},
        tuple(dict.fromkeys(example for source in chosen.values() for example in source.examples)),
        tuple(dict.fromkeys(name for source in chosen.values() for name in source.tasks)),
        rankings[0],
        tuple(dict.fromkeys(document for source in chosen.values() for document in source.documents)),
    )


def fixed_tokens(tables: Mapping[int, NDArray[np.int64]]) -> HeadRule:
    """Tables that are made already, by budget."""
    return lambda budget, *, window, knobs: tables[budget]


def _ranking(file: HeadBudgets) -> dict[str, Any]:
    """The window, and kernel and pooling that a search ranked tokens with; other rules do not depend on these."""
    parameters = file.rule["parameters"]
    pooled = {name: parameters[name] for name in ("kernel", "pooling") if name in parameters}
    return {"window": file.window, **pooled}


def _from_values(given: Path | None, model: Model, published_rounding: bool, zeroed: int | None) -> StaticBudgets:
    path = values_path(given) if given else embedded.values_path()
    values = HeadValues.load(path)
    _check(values.model, model, "cokv", embedded_file=given is None, what=f"The profile {path}")

    def rule(budget: int, *, window: int, knobs: Options) -> NDArray[np.int64]:
        alpha = knobs.get("zeroed") if zeroed is None else zeroed
        return values.budgets(budget, window=window, zeroed=alpha, published_rounding=published_rounding)

    return StaticBudgets(
        rule,
        {"profile": file_sha256(path), "zeroed": zeroed},
        values.examples,
        values.tasks,
        documents=values.documents,
        file=file_sha256(path),
    )


def _from_scores(model: Model, published_rounding: bool, sources: HeadSources) -> StaticBudgets:
    path = sources.head_scores or embedded.scores_path()
    scores = HeadScores.load(path)
    _check(scores.model, model, "headkv", embedded_file=sources.head_scores is None, what=f"The head scores {path}")

    def rule(budget: int, *, window: int, knobs: Options) -> NDArray[np.int64]:
        beta = knobs.get("beta") if sources.beta is None else sources.beta
        return scores.budgets(budget, window=window, beta=beta, published_rounding=published_rounding)

    return StaticBudgets(
        rule,
        {"head_scores": file_sha256(path), "beta": sources.beta},
        scores.examples,
        scores.tasks,
        documents=scores.documents,
        file=file_sha256(path),
    )


def _from_shares(model: Model, sources: HeadSources) -> StaticBudgets:
    given = sources.shares
    path = embedded.shares_path() if given is None else given / "shares.json" if given.is_dir() else given
    shares = HeadShares.load(path)
    _check(shares.model, model, "cokv-search", embedded_file=given is None, what=f"The shares {path}")
    return StaticBudgets(
        lambda budget, *, window, knobs: shares.budgets(budget, window=window),
        {"shares": file_sha256(path)},
        shares.examples,
        shares.tasks,
        {"window": shares.window, "kernel": shares.kernel, "pooling": shares.pooling},
        shares.documents,
    )


def _check(made_for: Any, model: Model, method: str, *, embedded_file: bool, what: str) -> None:
    try:
        check_same_model(made_for, model.fingerprint, what)
    except RequestError:
        if not embedded_file:
            raise
        raise RequestError(
            f"No head budgets for '{method}' on '{model.name}' are at hand; {STATIC_METHODS[method]}."
        ) from None
