"""CoKV's published complementary contributions (nawei1010/CoKV): one slice of the sliced Shapley value a file.

A slice holds, for coalitions of one size, the sum of complementary contributions over the samples that contain a
player (cc_left) and how many these are (count_left). Neutral archives (.npz) hold one file a row.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets.checked_json import is_integer
from cokv_bench.budgets.head_values import HeadValues
from cokv_bench.errors import RequestError

_TABLES = ("cc_left", "cc_right", "count_left", "count_right")
KEYS = frozenset({*_TABLES, "sampling_count"})
ROW_KEYS = KEYS | {"dataset", "nominal_slice", "true_slice"}

#: Tokens that heads outside a coalition kept in the published runs.
WINDOW = 8
_FILE_NAME = re.compile(r"cc_(?:(?:llama|mistral|qwen3)_)?(?P<dataset>.+?)(?:_size)?_(?P<size>[0-9]{1,6})")
_NOT_OF_LONGBENCH = ("needle", "average")


@dataclass(frozen=True, eq=False)
class Slice:
    """One published file, checked.

    Attributes:
        label: how to call it in a sentence.
        model: id of the model.
        dataset: LongBench's name of the task, "needle", or "average" over tasks.
        nominal: coalition size by its name, None where the name says none.
        size: coalition size by its counts.
        samples: sampled pairs of a coalition and its complement.
        contributions: float64 [players], mean complementary contribution of coalitions with the player.
        content: hash of everything it holds.
        origin: `file`, `sha256` and, in an archive, `row`.
    """

    label: str
    model: str
    dataset: str
    nominal: int | None
    size: int
    samples: int
    contributions: NDArray[np.float64] = field(repr=False)
    content: str
    origin: Mapping[str, Any]

    @property
    def mislabelled(self) -> bool:
        """Whether its name says another size than it holds."""
        return self.nominal is not None and self.nominal != self.size


def slice_of_file(path: Path, entries: Mapping[str, Any], *, model: str, dataset: str | None, sha256: str) -> Slice:
    """A slice from the dictionary in an authors' file.

    Args:
        path: the file; its name says dataset and nominal size where it is as published (cc_trec_32.npy).
        entries: `KEYS`; the tables float64 [players + 1], the last entry empty.
        model: id of the model.
        dataset: name of the task for a file whose name says none.

    Raises:
        RequestError: missing or further keys, tables that do not fit, no dataset.
    """
    named = _FILE_NAME.fullmatch(path.stem)
    task = named["dataset"] if named else dataset
    if task is None:
        raise RequestError("The file name contains no task (expected cc_<task>_<size>.npy); give it with --task.")
    _check_dataset(task)
    check_keys(entries, KEYS)
    tables = {}
    for key in _TABLES:
        table = _numbers(entries, key, dimensions=1)
        if len(table) < 2 or table[-1] != 0:
            raise RequestError(f"{key!r} ends in {table[-1:].tolist()}; expected players and then one empty entry.")
        tables[key] = table[:-1]
    samples = entries["sampling_count"]
    return _slice(
        tables,
        samples,
        label=path.name,
        model=model,
        dataset=task,
        nominal=int(named["size"]) if named else None,
        origin={"file": path.name, "sha256": sha256},
    )


def slices_of_archive(path: Path, arrays: Mapping[str, NDArray[Any]], *, model: str, sha256: str) -> list[Slice]:
    """The slices of a neutral archive, a row each.

    Args:
        arrays: `ROW_KEYS`; the tables [rows, players], the rest [rows].
        model: id of the model.

    Raises:
        RequestError: missing or further arrays, or arrays that do not fit.
    """
    check_keys(arrays, ROW_KEYS)
    tables = {key: _numbers(arrays, key, dimensions=2) for key in _TABLES}
    rows = len(tables["cc_left"])
    for key in ROW_KEYS:
        if arrays[key].shape[:1] != (rows,) or (key not in _TABLES and arrays[key].ndim != 1):
            raise RequestError(f"{key!r} has the shape {list(arrays[key].shape)}; expected {rows} rows.")
    kinds = {"dataset": "U", "nominal_slice": "iu", "true_slice": "iu", "sampling_count": "iu"}
    for key, kind in kinds.items():
        if arrays[key].dtype.kind not in kind:
            raise RequestError(
                f"{key!r} is of type {arrays[key].dtype}; expected {'names' if kind == 'U' else 'integers'}."
            )
    for dataset in arrays["dataset"]:
        _check_dataset(str(dataset))
    slices = [
        _slice(
            {key: table[row] for key, table in tables.items()},
            arrays["sampling_count"][row].item(),
            label=f"{path.name} row {row} ({arrays['dataset'][row]})",
            model=model,
            dataset=str(arrays["dataset"][row]),
            nominal=int(arrays["nominal_slice"][row]),
            origin={"file": path.name, "row": row, "sha256": sha256},
        )
        for row in range(rows)
    ]
    for one, size in zip(slices, arrays["true_slice"], strict=True):
        if one.size != size:
            raise RequestError(f"{one.label}: 'true_slice' is {size}, but the counts are of size {one.size}.")
    return slices


def check_keys(entries: Mapping[str, Any], expected: frozenset[str]) -> None:
    """Refuse missing and further entries, naming them."""
    missing, further = sorted(expected - entries.keys()), sorted(map(str, entries.keys() - expected))
    if missing or further:
        raise RequestError(
            f"It lacks {', '.join(missing) or 'nothing'} and has {', '.join(further)[:80] or 'nothing'} besides; "
            f"expected exactly {', '.join(sorted(expected))}."
        )


def _numbers(entries: Mapping[str, Any], key: str, *, dimensions: int) -> NDArray[np.float64]:
    table = entries[key]
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "fiu" or table.ndim != dimensions:
        found = f"{table.dtype} {list(table.shape)}" if isinstance(table, np.ndarray) else type(table).__name__
        raise RequestError(f"{key!r} is {found}; expected an array of numbers with {dimensions} dimensions.")
    if not np.isfinite(table).all():
        raise RequestError(f"{key!r} holds {table[~np.isfinite(table)][0]}; expected finite numbers.")
    return table.astype(np.float64)


def _check_dataset(name: str) -> None:
    # It becomes the name of a folder.
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise RequestError(f"A task is named {name[:40]!r}; expected letters, digits, '_', '-', '+' and '.'.")


def _slice(
    tables: dict[str, NDArray[np.float64]],
    samples: Any,
    *,
    label: str,
    model: str,
    dataset: str,
    nominal: int | None,
    origin: Mapping[str, Any],
) -> Slice:
    if not is_integer(samples) or not 1 <= samples < 2**31:
        found = samples if isinstance(samples, int | float) else f"a {type(samples).__name__}"
        raise RequestError(
            f"{label}: 'sampling_count' is {found!s:.60}; expected a whole number from 1 to {2**31 - 1}."
        )
    lengths = {key: len(table) for key, table in tables.items()}
    if len(set(lengths.values())) != 1:
        raise RequestError(f"{label}: the tables are of the lengths {lengths}; expected one length, the players.")
    counts = tables["count_left"]
    unseen = np.flatnonzero(counts <= 0)
    if unseen.size:
        listed = ", ".join(map(str, unseen[:8])) + (", ..." if unseen.size > 8 else "")
        raise RequestError(f"{label}: no sample contains the players {listed}; expected every player in at least one.")
    if (counts != np.floor(counts)).any() or counts.max() > samples:
        odd = counts[(counts != np.floor(counts)) | (counts > samples)][0]
        raise RequestError(f"{label}: 'count_left' holds {odd:g}; expected whole numbers up to the {samples} samples.")
    size = counts.sum() / samples
    if not size.is_integer() or not 1 <= size <= counts.size:
        raise RequestError(
            f"{label}: its counts sum to {counts.sum():g} over {samples} samples, coalitions of {size:g} players; "
            f"expected a whole number from 1 to {counts.size}."
        )
    digest = hashlib.sha256(str(samples).encode())
    for key in _TABLES:
        digest.update(tables[key].tobytes())
    return Slice(
        label, model, dataset, nominal, int(size), samples, tables["cc_left"] / counts, digest.hexdigest(), origin
    )


def oddities(slices: Sequence[Slice]) -> list[tuple[str, frozenset[Slice]]]:
    """Sentences on slices of another size than their name says and on slices that repeat another, with the slices."""
    found = [
        (f"{one.label} says {one.nominal} and holds size {one.size}", frozenset({one}))
        for one in slices
        if one.mislabelled
    ]
    same: dict[str, list[Slice]] = {}
    for one in slices:
        same.setdefault(one.content, []).append(one)
    for group in same.values():
        if len(group) > 1:
            found.append((f"{' and '.join(one.label for one in group)} hold the same numbers", frozenset(group)))
    return found


def head_values(slices: Sequence[Slice], fingerprint: Mapping[str, Any]) -> HeadValues:
    """Sliced Shapley values (arXiv 2502.17501) from the slices of one task: the mean of their contributions.

    Repeated slices count as often as they are there, as in the published budgets.

    Args:
        slices: at least one, all of one task and as many players.
        fingerprint: of the model, with layers * KV heads = players.
    """
    # Published budgets truncate, so the last bit counts: the slices are added in the published order, by the size in
    # their names. Dividing by their number, 1 or 4 in all that is published, is then exact and changes no budget.
    ordered = sorted(slices, key=lambda one: (one.nominal is None, one.nominal or 0))
    total = np.zeros(ordered[0].contributions.size)
    for one in ordered:
        total = total + one.contributions
    shape = (fingerprint["layers"], fingerprint["kv_heads"])
    dataset = ordered[0].dataset
    return HeadValues(
        values=(total / len(ordered)).reshape(shape),
        standard_errors=np.full(shape, np.nan),
        estimator="ssv",
        samples=sum(one.samples for one in ordered),
        seed=None,
        utility="metric",
        window=WINDOW,
        tasks=(dataset if dataset in _NOT_OF_LONGBENCH else f"longbench/{dataset}",),
        examples=(),
        model=fingerprint,
        source={
            "slices": [
                {**one.origin, "nominal_size": one.nominal, "size": one.size, "samples": one.samples} for one in ordered
            ],
            "mislabelled": [one.label for one in ordered if one.mislabelled],
        },
    )
