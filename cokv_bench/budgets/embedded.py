"""Head values, head scores and searched shares that ship with the project, for the embedded model."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets.head_file import load_head_file
from cokv_bench.errors import unknown


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


#: By method: the head file that ships for its rule.
SHIPPED: Mapping[str, Callable[[], Path]] = {"cokv": values_path, "headkv": scores_path, "cokv-search": shares_path}


def embedded_budgets(
    method: str,
    knobs: Mapping[str, Any] = MappingProxyType({}),
    *,
    window: int = 8,
    published_rounding: bool = False,
) -> Callable[[int], NDArray[np.int64]]:
    """Budgets of a method for the embedded model: budget -> int64 [layers, kv_heads], window included.

    Args:
        method: "cokv", "headkv" or "cokv-search".
        knobs: of its rule, see `HeadFile.tokens_at`.
        window: what every head keeps, protected first tokens included.
        published_rounding: of its rule, where that has one.

    Raises:
        RequestError: nothing ships for that method.
    """
    if method not in SHIPPED:
        raise unknown("method with embedded budgets", method, SHIPPED)
    file = load_head_file(SHIPPED[method]())
    return partial(file.tokens_at, window=window, published_rounding=published_rounding, knobs=knobs)
