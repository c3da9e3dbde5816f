"""What a step of coalitions has measured so far, example by example, until it is whole and goes to the ledger."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from cokv_bench.budgets.checked_json import strict_loads
from cokv_bench.game.ledger_format import LedgerHeader
from cokv_bench.log import AppendLog, whole_lines

_NAME = "step.jsonl"


class StepJournal:
    """Columns of a step, one an example, that a stopped process has left or this one adds. A context manager.

    What is left of another step or another ledger, or is damaged, is measured again and not an error: everything here
    can be.

    Attributes:
        columns: example number -> utilities of the step's coalitions, in order.
    """

    def __init__(self, folder: Path, header: LedgerHeader, start: int, stop: int) -> None:
        """The journal of rows `start` to `stop - 1` of a ledger with that header, whose lock the caller holds.

        Raises:
            RequestError: the folder cannot be written.
        """
        path = folder / _NAME
        title = {"ledger": hashlib.sha256(header.line()).hexdigest(), "start": start, "stop": stop}
        left = _columns(path, title, stop - start) if path.exists() else None
        if left is None:
            path.unlink(missing_ok=True)
        self.columns: dict[int, list[float]] = left or {}
        self._log = AppendLog(path)
        if left is None:
            self._log.append(_line(title))

    def append(self, example: int, utilities: Sequence[float]) -> None:
        """Add a column; it is on the disk when the call returns.

        Raises:
            RequestError: the disk does not take it.
        """
        self._log.append(_line({"example": example, "utilities": list(utilities)}))
        self.columns[example] = list(utilities)

    def __enter__(self) -> "StepJournal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()


def clear_journal(folder: Path) -> None:
    """Remove what the last step has left, once it is in the ledger."""
    (folder / _NAME).unlink(missing_ok=True)


def _line(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, allow_nan=False) + "\n").encode()


def _columns(path: Path, title: dict[str, Any], rows: int) -> dict[int, list[float]] | None:
    """The columns of a file with that title, None where it has another or is damaged."""
    lines = whole_lines(path).split(b"\n")[:-1]
    try:
        records = [strict_loads(line) for line in lines]
        if not records or records[0] != title:
            return None
        columns = {record["example"]: record["utilities"] for record in records[1:]}
        whole = all(len(column) == rows and all(type(u) is float for u in column) for column in columns.values())
        return columns if whole else None
    except (ValueError, TypeError, KeyError):
        return None
