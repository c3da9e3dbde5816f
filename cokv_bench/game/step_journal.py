"""What a step of coalitions has measured so far, example by example, until it is whole and goes to the ledger.

Once sampling has ended, a journal of no rows says so until the head values are written.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from cokv_bench.checks import Check, text, whole
from cokv_bench.errors import RequestError
from cokv_bench.game.ledger import LedgerHeader
from cokv_bench.log import HeadedLog, UnfitLogError, json_line

_NAME = "step.jsonl"


class StepJournal(HeadedLog):
    """Columns of a step, one per example, that a stopped process has left or this one adds. A context manager.

    What is left of another step or another ledger, or is damaged, is measured again and not an error: everything here
    can be.

    Attributes:
        columns: example number -> utilities of the step's coalitions, in order.
    """

    kind, schema = "step-journal", 1
    fields: ClassVar[Mapping[str, Check]] = {"ledger": text, "start": whole(0), "stop": whole(1)}

    def __init__(self, *file: Any) -> None:
        self.columns: dict[int, list[float]] = {}
        super().__init__(*file)

    @classmethod
    def open(cls, folder: Path, header: LedgerHeader, start: int, stop: int) -> Self:
        """The journal of rows `start` to `stop - 1` of a ledger with that header, whose lock the caller holds.

        Raises:
            RequestError: the folder cannot be written.
        """
        path, settings = folder / _NAME, _settings(header, start, stop)
        try:
            return cls.resume(path, settings)
        except UnfitLogError:
            path.unlink()
            return cls.resume(path, settings)

    def take(self, record: Any) -> str | None:
        """See `HeadedLog.take`."""
        rows = self.settings["stop"] - self.settings["start"]
        try:
            example, column = record["example"], record["utilities"]
            if whole(0)(example) or len(column) != rows or not all(type(utility) is float for utility in column):
                return "is not a column"
        except (TypeError, KeyError):
            return "is not a column"
        self.columns[example] = column
        return None

    def append(self, example: int, utilities: Sequence[float]) -> None:
        """Add a column; it is on the disk when the call returns.

        Raises:
            RequestError: the disk does not take it.
        """
        self.write([{"example": example, "utilities": list(utilities)}])
        self.columns[example] = list(utilities)


def _settings(header: LedgerHeader, start: int, stop: int) -> dict[str, Any]:
    return {"ledger": hashlib.sha256(json_line(vars(header))).hexdigest(), "start": start, "stop": stop}


def mark_end(folder: Path, header: LedgerHeader, rows: int) -> None:
    """Say that the sampling of a ledger has ended at so many rows, for a call that finds no head values of them."""
    StepJournal.open(folder, header, rows, rows).close()


def is_marked(folder: Path, header: LedgerHeader, rows: int) -> bool:
    """Whether an earlier call has ended sampling there and was stopped before all head values were written."""
    try:
        return StepJournal.read(folder / _NAME).settings == _settings(header, rows, rows)
    except RequestError:
        return False


def clear_mark(folder: Path, header: LedgerHeader, rows: int) -> None:
    """Remove the mark, but not what another process may have begun to measure since."""
    if is_marked(folder, header, rows):
        (folder / _NAME).unlink(missing_ok=True)
