"""Which kind of published file this is, by its content."""

import hashlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets.head_curves import PERCENTS
from cokv_bench.budgets.importers.cokv_slices import Slice, slice_of_file, slices_of_archive
from cokv_bench.budgets.importers.headkv_scores import scores_of_archive, scores_of_json
from cokv_bench.budgets.importers.layouts import model_id
from cokv_bench.budgets.importers.npy import MAX_BYTES, holds_numbers, read_archive, read_dictionary, read_numbers
from cokv_bench.checks import text
from cokv_bench.errors import RequestError, quoted

_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"


@dataclass(frozen=True, eq=False)
class Scores:
    """HeadKV scores of one file: float64 [layers, query heads], with the file's hash and the id of the model."""

    path: Path
    sha256: str
    scores: NDArray[np.float64]
    model: str


@dataclass(frozen=True, eq=False)
class Curves:
    """LU-KV's curves of one file: float64 [99, layers, kv_heads], with the file's hash and the id of the model."""

    path: Path
    sha256: str
    pruned: NDArray[np.float64]
    model: str


def read_published(path: Path, *, model: str | None, dataset: str | None) -> list[Slice] | Scores | Curves:
    """Read one published file: CoKV slices (.npy, .npz), HeadKV scores (JSON, .npz) or LU-KV curves (.npy).

    Args:
        model: id of the model; None takes it from the file's name.
        dataset: task of a .npy file whose name says none.

    Raises:
        RequestError: one sentence that names the file, what was found and what was expected.
    """
    data = _content(path)
    sha256 = hashlib.sha256(data).hexdigest()
    with _naming(path):
        if data.startswith(_NPY) and holds_numbers(data):
            pruned = read_numbers(data)
            if pruned.ndim != 3 or len(pruned) != PERCENTS or pruned.dtype.kind != "f":
                raise RequestError(
                    f"The file holds an array {list(pruned.shape)} of {pruned.dtype}; expected one dictionary of "
                    f"CoKV's, or LU-KV's curves, floats [{PERCENTS}, layers, KV heads]."
                )
            return Curves(path, sha256, pruned.astype(np.float64), model_id(path, model))
        if data.startswith(_NPY):
            entries = read_dictionary(data)
            return [slice_of_file(path, entries, model=model_id(path, model), dataset=dataset, sha256=sha256)]
        if data.startswith(_ZIP):
            arrays = read_archive(data)
            if "samples" in arrays:
                return Scores(path, sha256, scores_of_archive(arrays), model_id(path, model))
            return slices_of_archive(path, arrays, model=model_id(path, model), sha256=sha256)
        # Some editors begin a text with a byte order mark.
        if data.removeprefix(BOM_UTF8).lstrip().startswith(b"{"):
            return Scores(path, sha256, scores_of_json(data), model_id(path, model))
        raise RequestError(
            "It is none of the published kinds: CoKV's slices (.npy, .npz), HeadKV's scores (JSON, .npz) and LU-KV's "
            "curves (.npy)."
        )


def _content(path: Path) -> bytes:
    if text(path.name):
        raise RequestError(
            f"The name of the file {quoted(path.name)} is not UTF-8, and the imported file tells it; rename the file."
        )
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise RequestError(f"Cannot read {path}: {error.strerror}.") from None
    if len(data) > MAX_BYTES:
        raise RequestError(f"{path} is longer than {MAX_BYTES} bytes; expected a file of head scores.")
    return data


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
