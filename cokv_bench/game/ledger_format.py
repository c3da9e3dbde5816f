"""How a ledger is written: one header line, then one line a coalition."""

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cokv_bench.budgets.checked_json import is_integer, strict_loads
from cokv_bench.checks import Check, an_object, listed, problem, text, whole
from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import BoolArray, from_hex, to_hex

KIND = "coalition-ledger"
SCHEMA = 1


@dataclass(frozen=True)
class LedgerHeader:
    """What a ledger measures. Two runs may share a ledger only if every field is equal.

    Attributes:
        model: fingerprint of the model.
        tasks: names of the tasks.
        window: tokens that heads outside a coalition keep.
        utility: name of the utility.
        seed: seed of the sampling plan.
        examples: ids of the validation examples; utilities are listed in this order.
        players: (layers, kv_heads); player = layer * kv_heads + KV head.
        config: whatever else the numbers depend on, such as the slices; anything JSON can hold.
    """

    model: Mapping[str, Any]
    tasks: tuple[str, ...]
    window: int
    utility: str
    seed: int
    examples: tuple[str, ...]
    players: tuple[int, int]
    config: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> bytes:
        """The first line of the file."""
        return _line({"kind": KIND, "schema": SCHEMA, **vars(self)})

    @property
    def count(self) -> int:
        """Number of players."""
        return self.players[0] * self.players[1]


@dataclass(frozen=True, eq=False)
class Row:
    """One measured coalition.

    Attributes:
        k: row number in the sampling plan.
        slice: the coalition size its pair was sampled for.
        members: bool [players].
        utilities: one number an example, in the order of the header; any sequence of numbers will do.
    """

    k: int
    slice: int
    members: BoolArray
    utilities: Sequence[float]

    def __post_init__(self) -> None:
        # Numbers of numpy or torch are equal to Python's everywhere but in JSON.
        object.__setattr__(self, "k", operator.index(self.k))
        object.__setattr__(self, "slice", operator.index(self.slice))
        object.__setattr__(self, "members", np.asarray(self.members, dtype=bool))
        object.__setattr__(self, "utilities", tuple(float(utility) for utility in self.utilities))

    def line(self) -> bytes:
        """The row's line of the file."""
        members = to_hex(self.members)
        return _line({"k": self.k, "slice": self.slice, "members": members, "utilities": self.utilities})

    def problem(self, header: LedgerHeader) -> str | None:
        """Why the row cannot be in a ledger with that header, None where it can."""
        if self.k < 0:
            return "has a negative number"
        if self.members.shape != (header.count,):
            return f"has {self.members.size} players where the ledger has {header.count}"
        if len(self.utilities) != len(header.examples):
            return f"has {len(self.utilities)} utilities for {len(header.examples)} examples"
        return None if np.isfinite(self.utilities).all() else "has a utility that is not finite"


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, allow_nan=False, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def parse_ledger(path: Path, data: bytes) -> tuple[LedgerHeader, dict[int, Row]]:
    """Header and rows of whole lines (`data` ends in a newline or is empty); `path` is for the errors.

    Raises:
        RequestError: no header, another schema, or a line that is damaged or repeats a coalition, which is named.
    """
    lines = data.split(b"\n")[:-1]
    header = _parse_header(path, lines[0] if lines else b"")
    rows: dict[int, Row] = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            row = _parse_row(line, header)
            problem = f"repeats coalition {row.k}" if row.k in rows else row.problem(header)
        except (ValueError, KeyError, TypeError, OverflowError):
            problem = "is not a coalition"
        if problem:
            raise RequestError(
                f"{path}, line {number} {problem}; the ledger is damaged: "
                "restore a copy or cut the file before that line."
            )
        rows[row.k] = row
    return header, rows


def _parse_row(line: bytes, header: LedgerHeader) -> Row:
    record = strict_loads(line)
    utilities = record["utilities"]
    # float() would also take "1" and true.
    if not isinstance(utilities, list) or not all(type(utility) in (int, float) for utility in utilities):
        raise ValueError("utilities are not a list of numbers")
    if not all(is_integer(record[name]) and abs(record[name]) < 2**31 for name in ("k", "slice")):
        raise ValueError("k and slice are not integers, or larger than any plan's")
    return Row(record["k"], record["slice"], from_hex(record["members"], header.count), utilities)


_HEADER: dict[str, Check] = {
    **dict.fromkeys(("tasks", "examples"), listed(text)),
    **dict.fromkeys(("model", "config"), an_object),
    "window": whole(1),
    "utility": text,
    "seed": whole(0),
    "players": listed(whole(1), 2),
}


def _parse_header(path: Path, line: bytes) -> LedgerHeader:
    try:
        record = strict_loads(line)
        kind, schema = record.pop("kind"), record.pop("schema")
        if kind == KIND and schema == SCHEMA and not problem(record, _HEADER):
            for name in ("tasks", "examples", "players"):
                record[name] = tuple(record[name])
            header = LedgerHeader(**record)
            header.line()  # A ValueError where it could not be written, as half a character cannot.
            if len(header.players) == 2:
                return header
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    else:
        if kind == KIND and schema != SCHEMA:
            raise RequestError(f"{path} has schema version {schema!r}; this release reads version {SCHEMA}.")
    raise RequestError(f"{path} does not begin with the header of a ledger; move it away or choose another folder.")


def check_same(path: Path, found: LedgerHeader, wanted: LedgerHeader) -> None:
    """Refuse a ledger whose header differs; compared as JSON, where a tuple and a list are the same.

    Raises:
        RequestError: every field that differs, with both sides.
    """
    theirs, ours = (_flat(json.loads(header.line())) for header in (found, wanted))
    absent = object()
    differing = [key for key in sorted(theirs | ours) if theirs.get(key, absent) != ours.get(key, absent)]
    if differing:
        told = "; ".join(f"{key} is {_shown(theirs, key)} there, {_shown(ours, key)} here" for key in differing)
        raise RequestError(f"{path} belongs to another profile: {told}; use another folder or the same settings.")


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict) and value:
            result.update(_flat(value, f"{prefix}{key}."))
        else:
            result[prefix + key] = value
    return result


def _shown(record: Mapping[str, Any], key: str) -> str:
    if key not in record:
        return "missing"
    text = json.dumps(record[key], ensure_ascii=False)
    if len(text) <= 120:
        return text
    count = f" ({len(record[key])} entries)" if isinstance(record[key], list) else ""
    return f"{text[:117]}...{count}"
