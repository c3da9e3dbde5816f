"""The search's ledger: what was asked, and a line a round from which a stopped search goes on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cokv_bench.budgets.checked_json import strict_loads
from cokv_bench.checks import Check, by_name, listed, number, numbers, or_null, problem, whole
from cokv_bench.errors import RequestError
from cokv_bench.log import AppendLog

KIND = "search-ledger"
SCHEMA = 3

Table = list[list[float]]


@dataclass(frozen=True)
class Round:
    """Where a search stands after some steps.

    Attributes:
        step: steps done.
        seconds: time that all calls have searched.
        followed: mean over the round's steps of what they followed, in shares of the gap that were closed.
        chosen: budget -> gain over gap on the examples to choose on, by the average.
        parameters, average, first, second: [budgets][layers][kv_heads]: log-shares at each budget, their moving
            average, and the optimiser's two moments.
    """

    step: int
    seconds: float
    followed: float
    chosen: dict[str, float]
    parameters: list[Table]
    average: list[Table]
    first: list[Table]
    second: list[Table]

    @property
    def merit(self) -> float:
        """The mean over the budgets."""
        return sum(self.chosen.values()) / len(self.chosen)


@dataclass(frozen=True)
class Ends:
    """What each case scores at both ends of the gap; None where no budget can change its answer.

    Attributes:
        full: with the full cache.
        uniform: budget -> with equal shares.
    """

    full: list[float | None]
    uniform: dict[str, list[float | None]]


class SearchLedger:
    """A search's file, open for this process alone. Use it as a context manager.

    Attributes:
        ends: None until they are measured.
        rounds: in their order.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        """Start a ledger, or go on with one of the same header.

        Raises:
            RequestError: the file is of another search, damaged, being written by another process, or cannot be.
        """
        self._log = AppendLog(path)
        self.ends: Ends | None = None
        self.rounds: list[Round] = []
        try:
            self._read({"kind": KIND, "schema": SCHEMA, **header})
        except BaseException:
            self.close()
            raise

    def _read(self, header: dict[str, Any]) -> None:
        path, title = self._log.path, json.loads(json.dumps(header))
        whole = self._log.data[: self._log.data.rfind(b"\n") + 1]
        if not whole:
            if not _line(header).startswith(self._log.data):
                raise RequestError(f"{path} is not a search's ledger; move it away or choose another folder.")
            self._log.append(_line(header))
            return
        damaged = RequestError(f"{path} is damaged; move it away and search anew.")
        try:
            found, *records = [strict_loads(line) for line in whole.splitlines()]
        except ValueError:
            raise damaged from None
        if not isinstance(found, dict) or found.get("kind") != KIND:
            raise RequestError(f"{path} is not a search's ledger; move it away or choose another folder.")
        if found != title:
            names = sorted(name for name in {*found, *title} if found.get(name) != title.get(name))
            raise RequestError(
                f"{path} is of a search with other settings ({', '.join(names)} differ); choose another folder."
            )
        for place, record in enumerate(records):
            wrong = problem(record, _round(title) if place else _ends(title))
            if wrong or set(record) != {each.name for each in fields(Round if place else Ends)}:
                raise damaged
        self.ends = Ends(**records[0]) if records else None
        if self.ends and any(_gone(scores) != _gone(self.ends.full) for scores in self.ends.uniform.values()):
            raise damaged
        self.rounds = [Round(**record) for record in records[1:]]

    def append(self, record: Ends | Round) -> None:
        """Add the ends, then round after round; each is on the disk when the call returns.

        Raises:
            RequestError: the disk does not take it.
        """
        self._log.append(_line(asdict(record)))
        if isinstance(record, Ends):
            self.ends = record
        else:
            self.rounds.append(record)

    def close(self) -> None:
        """Give up the file and its lock."""
        self._log.close()

    def __enter__(self) -> "SearchLedger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _gone(scores: list[float | None]) -> list[bool]:
    """By case, whether no budget can change its answer."""
    return [score is None for score in scores]


def _ends(header: Mapping[str, Any]) -> dict[str, Check]:
    """What the ends of a search with that header hold."""
    budgets = [str(budget) for budget in header["budgets"]]
    scores = listed(or_null(number))
    return {"full": scores, "uniform": by_name(budgets, scores)}


def _round(header: Mapping[str, Any]) -> dict[str, Check]:
    """What a round of a search with that header holds."""
    budgets = [str(budget) for budget in header["budgets"]]
    table = numbers(len(budgets), header["model"]["layers"], header["model"]["kv_heads"])
    return {
        "step": whole(0),
        **dict.fromkeys(("seconds", "followed"), number),
        "chosen": by_name(budgets, number),
        **dict.fromkeys(("parameters", "average", "first", "second"), table),
    }


def best_round(rounds: Sequence[Round], budget: int) -> Round:
    """The first of the rounds that are best at a budget on the examples to choose on."""
    return max(rounds, key=lambda one: one.chosen[str(budget)])


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, allow_nan=False) + "\n").encode()
