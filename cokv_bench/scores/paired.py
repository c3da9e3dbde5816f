"""Two methods on the same examples: differences example by example, their mean with its interval, and their tests."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cokv_bench.scores.intervals import Bounds, interval, spread
from cokv_bench.scores.signflips import DRAWN, Array, Outcome, family_test

# The column that numbers the examples, the same number for an example in all records of a family.
_ROW = "the example"


def numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """Records with their examples numbered, in an order that is not that of the records, so that flips are not either.

    Args:
        frame: with the columns task and example.
    """
    return frame.assign(**{_ROW: frame.groupby(["task", "example"]).ngroup()})


@dataclass(frozen=True)
class Measured:
    """What a method scored at one budget: arrays with a place per example."""

    rows: NDArray[np.int64]
    tasks: NDArray[Any]
    scores: Array
    kept: NDArray[np.int64]

    @classmethod
    def of(cls, records: pd.DataFrame) -> "Measured":
        """Of numbered records, each example once."""
        scores, kept = records["score"].to_numpy(float), records["kept_tokens"].to_numpy(np.int64)
        return cls(records[_ROW].to_numpy(np.int64), records["task"].to_numpy(object), scores, kept)


@dataclass(frozen=True)
class Pairs:
    """Differences between two methods on the examples of both: arrays with a place per example.

    Attributes:
        rows: numbers of the examples.
        tasks: which the examples are of.
        differences: in the unit of tables.
        equal: whether both kept as many tokens.
    """

    rows: NDArray[np.int64]
    tasks: NDArray[Any]
    differences: Array
    equal: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, places: NDArray[Any]) -> "Pairs":
        """Those at some places, by numbers or truth values."""
        return Pairs(self.rows[places], self.tasks[places], self.differences[places], self.equal[places])

    def of(self, tasks: Collection[str]) -> "Pairs":
        """Those of some tasks."""
        return self.at(np.isin(self.tasks, list(tasks)))


def pairs(one: Measured, other: Measured, factor: float) -> Pairs:
    """The first less the second, in the order of the first.

    Args:
        factor: from the scores of records to those of tables.
    """
    _, mine, theirs = np.intersect1d(one.rows, other.rows, assume_unique=True, return_indices=True)
    order = np.argsort(mine)
    mine, theirs = mine[order], theirs[order]
    # Rounded, so that what is alike but for the order of a sum is alike.
    differences = (factor * (one.scores[mine] - other.scores[theirs])).round(9)
    return Pairs(one.rows[mine], one.tasks[mine], differences, one.kept[mine] == other.kept[theirs])


def over_budgets(parts: Sequence[Pairs]) -> Pairs:
    """Mean differences of the examples that have every budget, in the order of the first.

    Args:
        parts: pairs of the same two methods at each budget, at least one.
    """
    common = parts[0].rows[np.all([np.isin(parts[0].rows, part.rows) for part in parts], axis=0)]
    aligned = []
    for part in parts:
        sorter = np.argsort(part.rows)
        aligned.append(part.at(sorter[np.searchsorted(part.rows, common, sorter=sorter)]))
    differences = np.mean([part.differences for part in aligned], axis=0).round(9)
    equal = np.all([part.equal for part in aligned], axis=0)
    return Pairs(common, aligned[0].tasks, differences, equal)


def compare(cell: Pairs, bounds: Bounds | None) -> tuple[dict[str, Any], Pairs]:
    """The numbers of a comparison before it is tested, and what each example adds to the difference.

    Where the two kept different numbers of tokens on an example they are not compared: there is `n` alone.

    Args:
        cell: pairs of one task or several, whose means count alike; at least one.
        bounds: of a difference.
    """
    n, differences, tasks = len(cell), cell.differences, cell.tasks
    groups = [differences[tasks == task] for task in dict.fromkeys(tasks)]
    counts = np.array([len(group) for group in groups])[pd.factorize(tasks)[0]]
    shares = Pairs(cell.rows, tasks, differences / counts / len(groups), cell.equal)
    if not cell.equal.all():
        return {"n": n}, shares
    low, high = interval(groups, bounds)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    numbers = {
        "n": n,
        "difference": float(np.mean([group.mean() for group in groups])),
        "ci_low": low,
        "ci_high": high,
        "standard_error": spread(groups).error if min(map(len, groups)) > 1 else np.nan,
        "wins": wins,
        "ties": n - wins - losses,
        "losses": losses,
        "win_probability": (wins + (n - wins - losses) / 2) / n,
    }
    return numbers, shares


def joint_test(shares: Sequence[Pairs], seed: int, *, drawn_at_most: int = DRAWN) -> Outcome:
    """Test comparisons jointly by sign flips, see `family_test`.

    Args:
        shares: what each example adds to each difference.
        seed, drawn_at_most: of the flips.
    """
    rows = np.unique(np.concatenate([each.rows for each in shares]))
    matrix = np.zeros((len(rows), len(shares)))
    for column, each in enumerate(shares):
        matrix[np.searchsorted(rows, each.rows), column] = each.differences
    return family_test(matrix, np.array([len(each) for each in shares]), seed, drawn_at_most=drawn_at_most)
