"""Do the intervals cover what they say, and are tests of alike methods significant as rarely as they say?

    python scripts/study_statistics.py --json results/statistics.json

Coverage of the 95% intervals on data whose true mean is known: normal, and drawn from the project's own records at the
numbers of rows and tasks that its tables have. Family-wise error of the primary and the budget family on the same
records, once with the methods of each example shuffled and once with the signs of each example's differences drawn.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.runs.journal import read_records, read_run
from cokv_bench.scores.intervals import GAINS, SCORES, Bounds, interval, ratio_intervals
from cokv_bench.scores.means import groups, overall
from cokv_bench.scores.signflips import LEVEL, family_test
from cokv_bench.scores.units import scale_of

Array = NDArray[np.float64]
#: Runs whose records are drawn from.
RUNS = ("smollm2-135m", "search/needle", "search/universal", "search/ruler")
#: The error of a family is a share of thousands of runs; more flips a run do not change it.
_FLIPS = 2**14


@dataclass(frozen=True)
class Records:
    """Scores in the unit of tables, [examples, methods, budgets], and the task of each example.

    The first method is the baseline; examples that lack a number are left out. `full` has no budget: [examples].
    """

    name: str
    tasks: NDArray[np.str_]
    scores: Array
    full: Array
    bounded: bool

    @classmethod
    def read(cls, folder: Path, name: str) -> "Records":
        """Of a run with SnapKV and the full cache."""
        frame = pd.DataFrame(read_records(folder))
        configuration = read_run(folder)["configuration"]
        methods = ["snapkv", *(m for m in configuration["methods"] if m not in ("full", "snapkv"))]
        budgets = configuration["budgets"]
        wide = frame.assign(budget=frame["budget"].fillna(0)).pivot_table(
            index=["task", "example"], columns=["method", "budget"], values="score"
        )
        wide = (
            scale_of(configuration).factor * wide[[("full", 0), *((m, b) for m in methods for b in budgets)]].dropna()
        )
        numbers = wide.to_numpy(float)
        scores = numbers[:, 1:].reshape(len(wide), len(methods), len(budgets))
        tasks = wide.index.get_level_values("task").to_numpy(str)
        return cls(name, tasks, scores, numbers[:, 0], configuration.get("utility") is None)

    def groups(self) -> dict[str, list[str]]:
        """The tasks of what sums the run up."""
        names = list(dict.fromkeys(self.tasks))
        return {whole: groups(names)[whole] for whole in overall(names)}


# Coverage.


@dataclass(frozen=True)
class Case:
    """Data with a known mean: names, how many rows of how many tasks, and a draw of an interval less that mean."""

    interval: str
    data: str
    tasks: int
    rows: str
    draw: Callable[[np.random.Generator], tuple[float, float]]


def normal_cases() -> Iterator[Case]:
    """Normal scores at the sizes in use, tasks of unequal spread."""
    sizes = {
        "2 to 6": [2, 4, 6] * 13 + [4, 4],
        "4 to 5": [5, 5, 4, 5, 5, 4, 5, 5, 4, 5, 5, 4, 5, 4, 5, 4],
        **{str(rows): [rows] * 11 for rows in (3, 6)},
    }
    sizes |= {f"{rows}, alone": [rows] for rows in (3, 4, 5, 6, 24, 72)}
    for rows, counts in sizes.items():
        scales = np.linspace(0.5, 2, len(counts))

        def draw(rng: np.random.Generator, counts: Sequence[int] = counts, scales: Array = scales) -> Any:
            return interval([scale * rng.normal(size=n) for n, scale in zip(counts, scales, strict=True)])

        yield Case("mean", "normal", len(counts), rows, draw)


def share_cases() -> Iterator[Case]:
    """Answers that are right or wrong, the true share uniform between 2 and 98%."""
    for n in (24, 72, 240):

        def draw(rng: np.random.Generator, n: int = n) -> tuple[float, float]:
            share = rng.uniform(0.02, 0.98)
            low, high = interval([100.0 * (rng.random(n) < share)], SCORES)
            return low - 100 * share, high - 100 * share

        yield Case("share of right answers", "true share uniform", 1, str(n), draw)


def record_cases(records: Records, rows: int | None = None) -> Iterator[Case]:
    """Scores, differences at single budgets and over the budgets, and shares of the gap, drawn from a run.

    Rows of one task are drawn from the task's own, those of several tasks have the task's mean and spread and the
    residuals of all tasks, since a few rows are no population.

    Args:
        rows: of a task among several, at most; default as many as the run has.
    """
    bounds, gains = (SCORES, GAINS) if records.bounded else (None, None)
    baseline = records.scores[:, :1]
    differences = records.scores[:, 1:] - baseline
    for whole, tasks in records.groups().items():
        found = [np.flatnonzero(records.tasks == task) for task in tasks]
        if len(found) == 1 and (len(found[0]) < 24 or rows is not None):
            continue
        groups, name = [(group, min(len(group), rows or len(group))) for group in found], f"{records.name}, {whole}"
        yield from _drawn("score", name, groups, records.scores.reshape(len(records.scores), -1), bounds)
        yield from _drawn("difference", name, groups, differences.reshape(len(differences), -1), gains)
        yield from _drawn("difference over budgets", name, groups, differences.mean(axis=2), gains)
        if not records.bounded:
            gap = (records.full[:, None] - baseline[:, 0]).reshape(-1, 1, baseline.shape[2])
            yield from _ratios(name, groups, np.concatenate([differences, gap], axis=1))


#: The rows of each task, and how many are drawn.
_Groups = Sequence[tuple[NDArray[np.int64], int]]


def _rows(groups: _Groups) -> str:
    sizes = sorted({size for _, size in groups})
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"


def _drawn(kind: str, name: str, groups: _Groups, values: Array, bounds: Bounds | None) -> Iterator[Case]:
    """Columns of values in turn: one draw is of one of them."""

    def draw(rng: np.random.Generator) -> tuple[float, float]:
        column = values[:, rng.integers(values.shape[1])]
        parts, truth = _sample(rng, [(column[group][:, None], size) for group, size in groups])
        # Made of pieces, rows of several tasks may lie beyond the bounds.
        low, high = interval([part[:, 0] for part in parts], bounds if len(groups) == 1 else None)
        return low - truth[0], high - truth[0]

    yield Case(kind, name, len(groups), _rows(groups), draw)


def _ratios(name: str, groups: _Groups, values: Array) -> Iterator[Case]:
    """The share of the gap that a method closes, [examples, methods + gap, budgets]."""

    def draw(rng: np.random.Generator) -> tuple[float, float]:
        budget, method = rng.integers(values.shape[2]), rng.integers(values.shape[1] - 1)
        pairs = values[:, [method, -1], budget]
        parts, truth = _sample(rng, [(pairs[group], size) for group, size in groups])
        lows, highs = ratio_intervals([part.T for part in parts])
        return lows[0] - truth[0] / truth[1], highs[0] - truth[0] / truth[1]

    yield Case("share of the gap", name, len(groups), _rows(groups), draw)


def _sample(rng: np.random.Generator, groups: Sequence[tuple[Array, int]]) -> tuple[list[Array], Array]:
    """New rows of each group, [rows, numbers], so many each, and the true means of the groups' means."""
    known = [group for group, _ in groups]
    centres, truth = [group.mean(axis=0) for group in known], np.mean([group.mean(axis=0) for group in known], axis=0)
    if len(groups) == 1:
        return [known[0][rng.integers(len(known[0]), size=groups[0][1])]], truth
    spreads = [group.std(axis=0, ddof=1) for group in known]
    pool = np.concatenate(
        [
            (group - centre) / np.where(spread > 0, spread, 1) * np.sqrt(len(group) / (len(group) - 1))
            for group, centre, spread in zip(known, centres, spreads, strict=True)
            if (spread > 0).all()
        ]
    )
    return [
        centre + spread * pool[rng.integers(len(pool), size=size)]
        for (_, size), centre, spread in zip(groups, centres, spreads, strict=True)
    ], truth


def coverage(case: Case, draws: int, seed: int) -> dict[str, Any]:
    """How often a case's interval holds the truth, or lies below or above it, among the draws that have one."""
    rng = np.random.default_rng(seed)
    ends = np.array([case.draw(rng) for _ in range(draws)])
    ends = ends[~np.isnan(ends).any(axis=1)]
    below, above = (ends[:, 1] < 0).mean(), (ends[:, 0] > 0).mean()
    row = {"interval": case.interval, "data": case.data, "tasks": case.tasks, "rows": case.rows, "draws": len(ends)}
    return {**row, "covered": 1 - below - above, "below": below, "above": above}


# Family-wise error.


def family_error(records: Records, family: str, null: str, runs: int, seed: int) -> dict[str, Any]:
    """How often a family has any significant difference where there is none.

    Args:
        family: "primary" (means over budgets) or "budget" (single budgets).
        null: "methods shuffled", the baseline among them, in each example; or "signs drawn" of each example.
        runs: made and tested.
    """
    rng = np.random.default_rng(seed)
    scores = records.scores.mean(axis=2, keepdims=True) if family == "primary" else records.scores
    weights, sizes = _weights(records, scores.shape[1] - 1, scores.shape[2])
    significant = 0
    for run in range(runs):
        if null == "methods shuffled":
            orders = rng.permuted(np.tile(np.arange(scores.shape[1]), (len(scores), 1)), axis=1)
            made = np.take_along_axis(scores, orders[:, :, None], axis=1)
            differences = made[:, 1:] - made[:, :1]
        else:
            differences = (scores[:, 1:] - scores[:, :1]) * rng.choice([-1.0, 1.0], size=(len(scores), 1, 1))
        shares = np.concatenate([weight * differences.reshape(len(scores), -1) for weight in weights], axis=1)
        adjusted = family_test(shares, sizes, run, drawn_at_most=_FLIPS).adjusted
        significant += bool((adjusted < LEVEL).any())
    row = {"family": family, "data": records.name, "null": null, "comparisons": len(sizes), "runs": runs}
    return {**row, "error": significant / runs}


def _weights(records: Records, methods: int, budgets: int) -> tuple[list[Array], NDArray[np.int64]]:
    """What an example counts in each benchmark's mean, [examples, 1] each, and the examples of each comparison."""
    weights, sizes = [], []
    for tasks in records.groups().values():
        counts = {task: (records.tasks == task).sum() for task in tasks}
        weight = np.array([1 / counts[task] / len(tasks) if task in counts else 0.0 for task in records.tasks])
        weights.append(weight[:, None])
        sizes += [sum(counts.values())] * (methods * budgets)
    return weights, np.array(sizes)


def main(
    results: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("results"),
    draws: Annotated[int, typer.Option(min=10, help="Draws per interval.")] = 4000,
    runs: Annotated[int, typer.Option(min=10, help="Runs per family and null.")] = 2000,
    seed: o.Seed = 0,
    json: o.JsonFile = None,
) -> None:
    """Simulate, print, and write."""
    read = [Records.read(results / name, name) for name in RUNS]
    cases = [*normal_cases(), *share_cases(), *(case for records in read for case in record_cases(records))]
    # The spreads of the tasks of search/ruler are themselves of three rows; these are of six.
    cases += record_cases(read[RUNS.index("search/universal")], rows=3)
    covered = [coverage(case, draws, seed) for case in cases]
    _print("Coverage of the 95% intervals", covered)
    errors = [
        family_error(records, family, null, runs, seed)
        for records in read
        for family in ("primary", "budget")[: 1 + (records.scores.shape[2] > 1)]
        for null in ("methods shuffled", "signs drawn")
    ]
    _print("Runs of alike methods with a significant difference, at 5%", errors)
    o.save_figures(json, {"draws": draws, "runs": runs, "seed": seed, "coverage": covered, "family_error": errors})


def _print(title: str, rows: list[dict[str, Any]]) -> None:
    cells = [[f"{value:.1%}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    o.print_table(title, list(rows[0]), cells, words=list(rows[0]))


if __name__ == "__main__":
    run_script(main)
