"""Where the budgets of CoKV and HeadKV come from: files, a profile, or what is embedded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets import HeadBudgets, HeadScores, HeadValues, embedded
from cokv_bench.budgets.fingerprint import check_same_model
from cokv_bench.budgets.from_profile import values_path
from cokv_bench.errors import RequestError
from cokv_bench.files import file_sha256
from cokv_bench.models import Model

#: Methods whose budgets are known before the prompt, and what makes them where nothing is embedded.
STATIC_METHODS = {
    "cokv": "run `cokv-bench profile` and name its folder with --profile, or a budget JSON with --budgets",
    "headkv": "name a file of head scores with --head-scores (scripts/headkv_scores.py makes one), "
    "or a budget JSON with --budgets",
}


@dataclass(frozen=True)
class Sources:
    """Files that a user names, and the knobs of the two rules; see `cokv-bench eval --help`."""

    budget_files: tuple[Path, ...] = ()
    profile: Path | None = None
    head_scores: Path | None = None
    zeroed: int | None = None
    beta: float = 1.01


@dataclass(frozen=True)
class StaticBudgets:
    """Budgets of one method.

    Attributes:
        tokens: budget -> int64 [layers, kv_heads], window included.
        description: what decides them, for a run's configuration.
        examples: ids of the examples that they were made from.
        tasks: names of the tasks of these examples.
    """

    tokens: Callable[[int], NDArray[np.int64]]
    description: dict[str, Any]
    examples: tuple[str, ...]
    tasks: tuple[str, ...]


def static_budgets(
    method: str,
    model: Model,
    budgets: Sequence[int],
    *,
    window: int,
    published_rounding: bool,
    sources: Sources,
) -> StaticBudgets:
    """Find the budgets of "cokv" or "headkv" for a model: named budget files first, then head values or scores.

    Raises:
        RequestError: nothing serves this model, a file is of another model, shape, window or sum, or a budget
            that is asked for is in no file.
    """
    files = [(path, HeadBudgets.load(path)) for path in sources.budget_files]
    mine = [(path, file) for path, file in files if file.method in (None, method)]
    if mine:
        return _from_files(method, model, budgets, window, mine)
    made = _from_scores if method == "headkv" else _from_values
    return made(model, window, published_rounding, sources)


def _from_files(
    method: str, model: Model, budgets: Sequence[int], window: int, files: list[tuple[Path, HeadBudgets]]
) -> StaticBudgets:
    tokens = {}
    for path, file in files:
        file.check_model(model.fingerprint)
        if file.window != window:
            raise RequestError(
                f"The budget file {path} was made for a window of {file.window} tokens, and this run has {window}; "
                f"run with --window {file.window} or make the budgets anew."
            )
        tokens[file.budget] = file.tokens
    for budget in budgets:
        if budget not in tokens:
            raise RequestError(
                f"No budget file of '{method}' is for a budget of {budget}; there is {sorted(tokens)}: "
                "make the missing one with `cokv-bench budgets`."
            )
    return StaticBudgets(
        tokens.__getitem__,
        {"files": {file.budget: file_sha256(path) for path, file in files}},
        tuple(dict.fromkeys(example for _, file in files for example in file.examples)),
        tuple(dict.fromkeys(task for _, file in files for task in file.tasks)),
    )


def _from_values(model: Model, window: int, published_rounding: bool, sources: Sources) -> StaticBudgets:
    path = values_path(sources.profile) if sources.profile else embedded.values_path()
    values = HeadValues.load(path)
    _check(values.model, model, "cokv", embedded_file=sources.profile is None, what=f"The profile {path}")
    return StaticBudgets(
        lambda budget: values.budgets(
            budget, window=window, zeroed=sources.zeroed, published_rounding=published_rounding
        ),
        {"profile": file_sha256(path), "zeroed": sources.zeroed},
        values.examples,
        values.tasks,
    )


def _from_scores(model: Model, window: int, published_rounding: bool, sources: Sources) -> StaticBudgets:
    path = sources.head_scores or embedded.scores_path()
    scores = HeadScores.load(path)
    _check(scores.model, model, "headkv", embedded_file=sources.head_scores is None, what=f"The head scores {path}")
    return StaticBudgets(
        lambda budget: scores.budgets(budget, window=window, beta=sources.beta, published_rounding=published_rounding),
        {"head_scores": file_sha256(path), "beta": sources.beta},
        scores.examples,
        scores.tasks,
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
