"""HeadKV's published head scores (FYYFU/HeadKV): some samples for each query head, as JSON or as an archive."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets.checked_json import strict_loads
from cokv_bench.budgets.importers.cokv_slices import check_keys
from cokv_bench.errors import RequestError

ARCHIVE_KEYS = frozenset({"samples", "mean"})
_HEAD = re.compile(r"(0|[1-9][0-9]{0,3})-(0|[1-9][0-9]{0,3})")


def scores_of_json(data: bytes) -> NDArray[np.float64]:
    """Mean score of every query head from an object {"layer-head": [score of a sample, ...]}.

    Returns:
        float64 [layers, query heads].

    Raises:
        RequestError: no such object, a head is missing, or a score is no finite number.
    """
    try:
        heads = strict_loads(data)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The file is not JSON ({error}).") from None
    if not isinstance(heads, dict) or not heads:
        raise RequestError('The file holds no head scores; expected {"layer-head": [scores], ...}.')
    means = {_position(key): _mean(key, samples) for key, samples in heads.items()}
    layers, width = (1 + max(position[axis] for position in means) for axis in (0, 1))
    if len(means) != layers * width:
        raise RequestError(f"The file has {len(means)} heads; expected {layers} layers x {width} query heads.")
    scores = np.empty((layers, width))
    for position, mean in means.items():
        scores[position] = mean
    return scores


def scores_of_archive(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Mean score of every query head from a neutral archive.

    Args:
        arrays: `samples` [layers, query heads, samples] and their `mean` [layers, query heads].

    Returns:
        float64 [layers, query heads].

    Raises:
        RequestError: missing or further arrays, other shapes, or a mean that is not that of the samples.
    """
    check_keys(arrays, ARCHIVE_KEYS)
    samples, mean = arrays["samples"], arrays["mean"]
    if samples.ndim != 3 or samples.dtype.kind != "f" or mean.dtype.kind != "f" or mean.shape != samples.shape[:2]:
        raise RequestError(
            f"'samples' is {samples.dtype} {list(samples.shape)} and 'mean' {mean.dtype} {list(mean.shape)}; "
            "expected floats [layers, heads, samples] and [layers, heads]."
        )
    scores = samples.astype(np.float64).mean(axis=-1)
    if not np.allclose(scores, mean):
        raise RequestError("'mean' is not the mean of 'samples'; expected it to be.")
    return scores


def _position(key: str) -> tuple[int, int]:
    match = _HEAD.fullmatch(key)
    if not match:
        raise RequestError(f"The key {key[:40]!r} names no head; expected layer-head, such as 0-31.")
    return int(match[1]), int(match[2])


def _mean(key: str, samples: Any) -> float:
    if not isinstance(samples, list) or not samples or not all(type(score) in (int, float) for score in samples):
        raise RequestError(f"Head {key} has {str(samples)[:40]!r}; expected a list of scores.")
    try:
        mean = float(np.mean(np.array(samples, dtype=np.float64)))
    except OverflowError:  # an integer that no float can hold
        mean = np.inf
    if not np.isfinite(mean):
        raise RequestError(f"Head {key} has scores whose mean is {mean}; expected finite numbers.")
    return mean
