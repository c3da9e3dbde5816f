"""The search's ledger: what was asked, and a line per round from which a stopped search is resumed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from cokv_bench.checks import Check, by_name, listed, number, numbers, or_null, problem, whole
from cokv_bench.log import HeadedLog

KIND = "search-ledger"

Table = list[list[float]]


@dataclass(frozen=True)
class Round:
    """Where a search stands after some steps.

    Attributes:
        step: steps done.
        seconds: time that all calls have searched.
        followed: mean over the round's steps of what they followed, in shares of the gap that were closed.
        chosen: budget -> gain over gap on the examples to choose on, by the average.
        parameters, average, first, second: [experts * budgets][layers][kv_heads]: log-shares of each expert at each
            budget (mostly there is one), their moving average, and the optimiser's two moments.
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

    def of(self, cases: Sequence[int]) -> "Ends":
        """Those of some cases, in that order."""
        return self._each(lambda scores: [scores[case] for case in cases])

    def spread(self, cases: Sequence[int], count: int) -> "Ends":
        """The inverse of `of`: of `count` cases, None for those that are not among the cases."""

        def placed(scores: list[float | None]) -> list[float | None]:
            known = dict(zip(cases, scores, strict=True))
            return [known.get(case) for case in range(count)]

        return self._each(placed)

    def _each(self, change: Callable[[list[float | None]], list[float | None]]) -> "Ends":
        return Ends(change(self.full), {budget: change(scores) for budget, scores in self.uniform.items()})


class SearchLedger(HeadedLog):
    """A search's file: a line with its settings, one with the `Ends`, and one per `Round`.

    Attributes:
        ends: None until they are measured.
        rounds: in their order.
    """

    kind, schema = KIND, 3
    fields: ClassVar[Mapping[str, Check]] = {
        "budgets": listed(whole(1), 1),
        "model": lambda value: problem(value, dict.fromkeys(("layers", "kv_heads"), whole(1))),
    }

    def __init__(self, *file: Any) -> None:
        self.ends: Ends | None = None
        self.rounds: list[Round] = []
        super().__init__(*file)

    def take(self, record: Any) -> str | None:
        """See `HeadedLog.take`."""
        kind, needed = (Ends, _ends) if self.ends is None else (Round, _round)
        if problem(record, needed(self.settings)) or set(record) != {each.name for each in fields(kind)}:
            return f"is not the {kind.__name__.lower()} of a search"
        found = kind(**record)
        if isinstance(found, Ends) and any(_gone(scores) != _gone(found.full) for scores in found.uniform.values()):
            return "has cases that only some budgets change"
        self._keep(found)
        return None

    def append(self, record: Ends | Round) -> None:
        """Add the ends, then round after round; each is on the disk when the call returns.

        Raises:
            RequestError: the disk does not take it.
        """
        self.write([asdict(record)])
        self._keep(record)

    def _keep(self, record: Ends | Round) -> None:
        if isinstance(record, Ends):
            self.ends = record
        else:
            self.rounds.append(record)


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
    # Of several experts, those of the first come first.
    experts = max(1, len(header.get("rankings", ())) - 1)
    table = numbers(experts * len(budgets), header["model"]["layers"], header["model"]["kv_heads"])
    return {
        "step": whole(0),
        **dict.fromkeys(("seconds", "followed"), number),
        "chosen": by_name(budgets, number),
        **dict.fromkeys(("parameters", "average", "first", "second"), table),
    }


def best_round(rounds: Sequence[Round], budget: int) -> Round:
    """The first of the rounds that are best at a budget on the examples to choose on."""
    return max(rounds, key=lambda one: one.chosen[str(budget)])
