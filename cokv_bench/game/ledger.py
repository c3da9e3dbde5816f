"""The ledger: every measured coalition with the utility of every example, in an append-only file."""

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import numpy as np

from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.ledger_format import LedgerHeader, Row, check_same, parse_ledger
from cokv_bench.log import AppendLog, whole_lines


class Ledger:
    """A ledger file, read into memory; `open` may append to it, `read` may not.

    Rows are given out in the order of their k, whatever the order they were written in.

    Attributes:
        header: its first line.
    """

    def __init__(self, header: LedgerHeader, rows: dict[int, Row], log: AppendLog | None = None) -> None:
        self.header = header
        self._rows = rows
        self._log = log

    @classmethod
    def open(cls, path: str | Path, header: LedgerHeader) -> "Ledger":
        """Create a ledger, or go on with one, for this process alone until `close`.

        The torn last line of a run that was killed does not count.

        Raises:
            RequestError: another process writes to it, the file is damaged or is no ledger, or it
                was written for something else (each field that differs is named, with both sides).
        """
        log = AppendLog(Path(path))
        try:
            whole = log.data[: log.data.rfind(b"\n") + 1]
            if not whole:
                if not header.line().startswith(log.data):
                    raise RequestError(f"{path} is not a ledger; move it away or choose another folder.")
                whole = header.line()
                log.append(whole)
            found, rows = parse_ledger(log.path, whole)
            check_same(log.path, found, header)
        except BaseException:
            log.close()
            raise
        return cls(found, rows, log)

    @classmethod
    def read(cls, path: str | Path) -> "Ledger":
        """Read a ledger without a lock, also while another process appends; a torn last line is left out.

        Raises:
            RequestError: no such file, no ledger, or a damaged line (which is named).
        """
        return cls(*parse_ledger(Path(path), whole_lines(Path(path))))

    def append(self, rows: Iterable[Row]) -> None:
        """Write rows and return once they are on the disk; either all of them count or, after an error, none.

        Raises:
            RequestError: the ledger is not open for writing, or a row is there already or does not fit the header.
        """
        if self._log is None:
            raise RequestError("This ledger is not open for writing.")
        added: dict[int, Row] = {}
        for row in rows:
            known = row.k in self._rows or row.k in added
            problem = "is in the ledger already" if known else row.problem(self.header)
            if problem:
                raise RequestError(f"Coalition {row.k} {problem}; nothing was written to {self._log.path}.")
            added[row.k] = row
        self._log.append(b"".join(row.line() for row in added.values()))
        self._rows.update(added)

    @property
    def done(self) -> set[int]:
        """The k of every row."""
        return set(self._rows)

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

    def close(self) -> None:
        """Give up the lock; the rows stay readable."""
        if self._log is not None:
            self._log.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
