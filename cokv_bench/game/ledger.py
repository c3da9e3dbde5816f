"""The ledger: every measured coalition with the utility of every example, in an append-only file."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from cokv_bench.checks import Check, an_object, listed, text, whole
from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray, from_hex, to_hex
from cokv_bench.log import HeadedLog, UnfitLogError


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

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """From the first line of a ledger."""
        tuples = {name: tuple(settings[name]) for name in ("tasks", "examples", "players")}
        return cls(**{each.name: settings[each.name] for each in fields(cls)} | tuples)

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
        utilities: one number per example, in the order of the header; any sequence of numbers will do.
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

    @classmethod
    def of(cls, record: Any, players: int) -> Self:
        """From a line of a ledger. Raises `ValueError`, `KeyError`, `TypeError` or `OverflowError` for any other."""
        utilities = record["utilities"]
        # float() would also take "1" and true.
        if not isinstance(utilities, list) or not all(type(utility) in (int, float) for utility in utilities):
            raise ValueError("utilities are not a list of numbers")
        if not all(type(record[name]) is int and abs(record[name]) < 2**31 for name in ("k", "slice")):
            raise ValueError("k and slice are not integers, or larger than any plan's")
        return cls(record["k"], record["slice"], from_hex(record["members"], players), utilities)

    def record(self) -> dict[str, Any]:
        """The row as a line of a ledger has it."""
        return {"k": self.k, "slice": self.slice, "members": to_hex(self.members), "utilities": self.utilities}

    def problem(self, header: LedgerHeader) -> str | None:
        """Why the row cannot be in a ledger with that header, None where it can."""
        if self.k < 0:
            return "has a negative number"
        if self.members.shape != (header.count,):
            return f"has {self.members.size} players where the ledger has {header.count}"
        if len(self.utilities) != len(header.examples):
            return f"has {len(self.utilities)} utilities for {len(header.examples)} examples"
        return None if np.isfinite(self.utilities).all() else "has a utility that is not finite"


class Ledger(HeadedLog):
    """A ledger file, read into memory; `open` may append to it, `read` may not.

    Rows are given out in the order of their k, whatever the order they were written in.
    """

    kind, schema = "coalition-ledger", 1
    fields: ClassVar[Mapping[str, Check]] = {
        **dict.fromkeys(("tasks", "examples"), listed(text)),
        **dict.fromkeys(("model", "config"), an_object),
        "window": whole(1),
        "utility": text,
        "seed": whole(0),
        "players": lambda value: listed(whole(1), 2)(value) or (None if len(value) == 2 else "two numbers"),
    }

    def __init__(self, *file: Any) -> None:
        self._rows: dict[int, Row] = {}
        super().__init__(*file)

    @classmethod
    def open(cls, path: str | Path, header: LedgerHeader) -> Self:
        """Create a ledger, or resume one of the same header. Raises `RequestError` as `HeadedLog.resume` does."""
        return cls.resume(Path(path), vars(header))

    @cached_property
    def header(self) -> LedgerHeader:
        """What the ledger measures."""
        return LedgerHeader.of(self.settings)

    def take(self, record: Any) -> str | None:
        """See `HeadedLog.take`."""
        try:
            row = Row.of(record, self.header.count)
        except (ValueError, KeyError, TypeError, OverflowError):
            return "is not a coalition"
        if row.k in self._rows:
            return f"repeats coalition {row.k}"
        self._rows[row.k] = row
        return row.problem(self.header)

    def append(self, rows: Iterable[Row]) -> None:
        """Write rows and return once they are on the disk; either all of them count or, after an error, none.

        Raises:
            RequestError: the ledger is not open for writing, or a row is there already or does not fit the header.
        """
        added: dict[int, Row] = {}
        for row in rows:
            known = row.k in self._rows or row.k in added
            problem = "is in the ledger already" if known else row.problem(self.header)
            if problem:
                raise RequestError(f"Coalition {row.k} {problem}; nothing was written to {self.path}.")
            added[row.k] = row
        self.write(row.record() for row in added.values())
        self._rows.update(added)

    @property
    def done(self) -> set[int]:
        """The k of every row."""
        return set(self._rows)

    def refuse_gaps(self) -> None:
        """Raise `UnfitLogError` where a coalition is missing before others: a row's unit is known by its place."""
        missing = next((k for k in range(len(self._rows)) if k not in self._rows), None)
        if missing is not None:
            raise UnfitLogError(
                f"{self.path} lacks coalition {missing} and has later ones; the file is damaged: restore a copy, or "
                f"remove the lines of all coalitions after {missing}, which are then measured again."
            )

    def coalitions(self) -> BoolArray:
        """bool [m, players], by ascending k."""
        rows = [self._rows[k].members for k in sorted(self._rows)]
        return np.array(rows, dtype=bool).reshape(-1, self.header.count)

    def sizes(self) -> IntArray:
        """int64 [m], by ascending k: the coalition size that each row was sampled for."""
        return np.array([self._rows[k].slice for k in sorted(self._rows)], dtype=np.int64)

    def utilities(self) -> FloatArray:
        """float64 [m, examples], by ascending k; a coalition's utility is the mean of its row."""
        rows = [self._rows[k].utilities for k in sorted(self._rows)]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.header.examples))
