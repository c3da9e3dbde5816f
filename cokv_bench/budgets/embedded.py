"""Head values, head scores and searched shares that ship with the project, for the embedded model."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets.head_scores import HeadScores
from cokv_bench.budgets.head_shares import HeadShares
from cokv_bench.budgets.head_values import HeadValues

#: Window of budgets that are asked for without saying.
WINDOW = 8


def values_path() -> Path:
    """Head values of smollm2-135m on needles, written by `make embedded-profile`."""
    return _shipped("smollm2-135m.values.json")


def scores_path() -> Path:
    """HeadKV scores of smollm2-135m, written by `make embedded-profile`."""
    return _shipped("smollm2-135m.head_scores.json")


def shares_path() -> Path:
    """Searched shares of smollm2-135m for many tasks, lengths and budgets, written by `make embedded-search`."""
    return _shipped("smollm2-135m.shares.json")


def knobs_path() -> Path:
    """Knobs of the methods chosen for smollm2-135m on profile examples, written by `make embedded-knobs`."""
    return _shipped("smollm2-135m.knobs.json")


def _shipped(name: str) -> Path:
    return Path(str(resources.files(__package__) / "shipped" / name))


def embedded_budgets(method: str) -> Callable[[int], NDArray[np.int64]]:
    """Budgets of a method for the embedded model: budget -> int64 [layers, kv_heads], window included.

    Args:
        method: "cokv", "headkv" or "cokv-search".
    """
    if method == "cokv-search":
        shares = HeadShares.load(shares_path())
        return lambda budget: shares.budgets(budget, window=WINDOW)
    if method == "headkv":
        scores = HeadScores.load(scores_path())
        return lambda budget: scores.budgets(budget, window=WINDOW)
    values = HeadValues.load(values_path())
    return lambda budget: values.budgets(budget, window=WINDOW)
