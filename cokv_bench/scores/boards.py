"""Runs of several origins side by side: which of their numbers may be compared, and how they compare."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cokv_bench.budget import Budget
from cokv_bench.policies.names import FULL, competing
from cokv_bench.scores.chance import at_chance
from cokv_bench.scores.intervals import interval
from cokv_bench.scores.paired import Measured, Pairs, compare, joint_test, numbered, over_budgets, pairs
from cokv_bench.scores.signflips import LEVEL
from cokv_bench.scores.submissions import Submission, told_apart
from cokv_bench.scores.units import Unit, scale_of

#: The section of the mean over the budgets; the others are budgets as they are written.
MEAN = "mean"
#: Of `Board.scores`.
SCORES = [
    "submission",
    "method",
    "section",
    "n",
    "score",
    "ci_low",
    "ci_high",
    "kept_per_head",
    "kv_bytes",
    "exact_total",
]
#: Of `Board.pairs`.
PAIRS = [
    "section",
    "one",
    "other",
    "n",
    "difference",
    "ci_low",
    "ci_high",
    "p_adjusted",
    "within_noise",
    "discriminates",
]
_SEED = 0
# Pairs are many. With so few flips the standard error of a p-value of 0.05 is 0.001.
_FLIPS = 2**15

#: A submission's name and a method.
Entry = tuple[str, str]
#: What makes two examples one: the task with all that decides how it is read and scored, and the example's id.
_Example = tuple[str, str]


@dataclass(frozen=True)
class ExampleSet:
    """Submissions that were measured on the very same examples of a benchmark.

    Attributes:
        submissions: their names.
        tasks: number of examples by task.
        tokens: of the shortest and the longest prompt.
        splits: that the submissions name.
        blind: whether the full cache is not above chance, so that methods cannot be told apart.
    """

    submissions: tuple[str, ...]
    tasks: Mapping[str, int]
    tokens: tuple[int, int]
    splits: tuple[str, ...]
    blind: bool

    @property
    def examples(self) -> int:
        return sum(self.tasks.values())


@dataclass(frozen=True)
class Board:
    """Submissions of one model, dtype, unit and benchmark that share examples, directly or by way of others.

    Attributes:
        model: its id, as the first submission has it.
        unit: of the numbers.
        sets: of equal examples; scores are comparable within one.
        budgets: those that every method of every submission has, at least two, of which `MEAN` is; empty where no two
            are shared.
        scores: a row per submission, method and section (empty for the full cache), with the columns `SCORES`.
        entries: what is compared, by number: neither the full cache nor ceilings.
        pairs: a row per section and two entries with examples in common, with the columns `PAIRS`: the first less the
            second, over `n` common examples. `p_adjusted` is corrected for all pairs of the section `MEAN`, or of all
            single budgets. Unequal totals are not compared, and the numbers are left empty.
    """

    model: str
    dtype: str
    question_agnostic: bool
    benchmark: str
    unit: Unit
    sets: tuple[ExampleSet, ...]
    budgets: tuple[Budget, ...]
    scores: pd.DataFrame
    entries: tuple[Entry, ...]
    pairs: pd.DataFrame

    @property
    def sections(self) -> list[str]:
        """The mean over the budgets where there is one, then the budgets."""
        return [each for each in self.scores["section"].unique() if each]


def make_boards(submissions: Sequence[Submission]) -> list[Board]:
    """All that can be compared of some submissions, scores before utilities, by model, benchmark and examples."""
    alike: dict[tuple[str, str], list[Submission]] = {}
    for each in told_apart(submissions):
        for benchmark in each.benchmarks:
            alike.setdefault((_condition(each), benchmark), []).append(each)
    boards = [_board(benchmark, group) for (_, benchmark), each in alike.items() for group in _sharing(benchmark, each)]
    return sorted(
        boards,
        key=lambda board: (
            board.unit.key,
            board.model,
            board.benchmark,
            -max(each.examples for each in board.sets),
        ),
    )


def _condition(each: Submission) -> str:
    """What must be equal for any two numbers to be comparable, whatever the task."""
    settings = each.configuration
    model = {key: value for key, value in settings["model"].items() if key != "id"}
    # Where the weights are hashed a model may have several names.
    named = None if model.get("weights") else settings["model"]["id"]
    reading = {key: value for key, value in settings.get("reading", {}).items() if key != "cut"}
    told = (named, model, settings.get("dtype"), _hidden(settings), settings.get("utility"), each.unit.plural, reading)
    return json.dumps(told, sort_keys=True)


def _hidden(settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("question_agnostic", False))


def _rows(each: Submission, benchmark: str) -> pd.DataFrame:
    _, tasks = each.benchmarks[benchmark]
    return each.frame[each.frame["task"].isin(tasks)]


def _examples(each: Submission, benchmark: str) -> frozenset[_Example]:
    rows = _rows(each, benchmark)
    return frozenset(zip(rows["identity"], rows["example"], strict=True))


def _sharing(benchmark: str, submissions: Sequence[Submission]) -> list[list[Submission]]:
    """Submissions with examples in common, also by way of a third."""
    groups: list[tuple[list[Submission], frozenset[_Example]]] = []
    for each in submissions:
        examples, members, apart = _examples(each, benchmark), [], []
        for group in groups:
            if group[1] & examples:
                members += group[0]
                examples |= group[1]
            else:
                apart.append(group)
        groups = [*apart, ([*members, each], examples)]
    order = {each.name: place for place, each in enumerate(submissions)}
    return [sorted(members, key=lambda each: order[each.name]) for members, _ in groups]


def _board(benchmark: str, submissions: Sequence[Submission]) -> Board:
    first = submissions[0]
    settings = first.configuration
    by_examples: dict[frozenset[_Example], list[Submission]] = {}
    for each in submissions:
        by_examples.setdefault(_examples(each, benchmark), []).append(each)
    frames = {each.name: _rows(each, benchmark) for each in submissions}
    rows = numbered(pd.concat([rows.assign(submission=name, task=rows["identity"]) for name, rows in frames.items()]))
    limited = rows[rows["budget"].notna()].groupby(["submission", "method", "budget"], sort=False)
    cells: dict[Any, Measured] = {key: Measured.of(cell) for key, cell in limited}
    entries = tuple(
        (each.name, method) for each in submissions for method in competing(frames[each.name]["method"].unique())
    )
    shown = dict.fromkeys((name, method) for name, method, _ in cells)
    had = [{budget for name, method, budget in cells if (name, method) == entry} for entry in shown]
    common: list[Budget] = sorted(set.intersection(*had)) if had else []
    budgets = tuple(common) if len(common) > 1 else ()
    return Board(
        settings["model"]["id"],
        settings.get("dtype", "unknown"),
        _hidden(settings),
        benchmark,
        first.unit,
        tuple(_example_set(benchmark, each) for each in by_examples.values()),
        budgets,
        _scores(benchmark, submissions, budgets),
        entries,
        _pairs(entries, cells, budgets, settings),
    )


def _example_set(benchmark: str, alike: Sequence[Submission]) -> ExampleSet:
    rows = _rows(alike[0], benchmark)
    _, tasks = alike[0].benchmarks[benchmark]
    counts = rows.groupby("task")["example"].nunique()
    return ExampleSet(
        tuple(each.name for each in alike),
        {task: int(counts[task]) for task in tasks},
        (int(rows["prompt_tokens"].min()), int(rows["prompt_tokens"].max())),
        tuple(dict.fromkeys(each.configuration["split"] for each in alike)),
        all(each.benchmarks[benchmark][0] in at_chance(each.frame, each.configuration) for each in alike),
    )


def _scores(benchmark: str, submissions: Sequence[Submission], budgets: Sequence[Budget]) -> pd.DataFrame:
    found = []
    for each in submissions:
        whole, _ = each.benchmarks[benchmark]
        table = each.scores[each.scores["task"] == whole].reindex(columns=["budget", *SCORES])
        section = ["" if pd.isna(budget) else str(budget) for budget in table["budget"]]
        single = table.assign(submission=each.name, section=section)
        if budgets:
            means_of = [
                _over(each, benchmark, method, single, budgets)
                for method in single["method"].unique()
                if method != FULL
            ]
            found.append(pd.DataFrame(means_of))
        found.append(single.sort_values("budget", kind="stable", na_position="first"))
    table = pd.concat([each for each in found if len(each)], ignore_index=True)[SCORES]
    order = {section: place for place, section in enumerate(["", MEAN, *_in_order(submissions)])}
    return table.sort_values("section", key=lambda column: column.map(order), kind="stable", ignore_index=True)


def _in_order(submissions: Sequence[Submission]) -> list[str]:
    """All budgets as they are written, tokens before shares, rising."""
    return [str(budget) for budget in sorted({b for each in submissions for b in each.frame["budget"].dropna()})]


def _over(
    each: Submission, benchmark: str, method: str, single: pd.DataFrame, budgets: Sequence[Budget]
) -> dict[str, Any]:
    """The row of a method's mean over budgets; its interval is of the examples' means."""
    rows = _rows(each, benchmark)
    mine = rows[(rows["method"] == method) & rows["budget"].isin(budgets)]
    scale = scale_of(each.configuration)
    of_examples = scale.factor * mine.groupby(["task", "example"])["score"].mean()
    groups = [group.to_numpy(float) for _, group in of_examples.groupby(level="task")]
    low, high = interval(groups, scale.scores)
    parts = single[(single["method"] == method) & single["budget"].isin(budgets)]
    return {
        "submission": each.name,
        "method": method,
        "section": MEAN,
        "n": len(of_examples),
        "score": float(np.mean([group.mean() for group in groups])),
        "ci_low": low,
        "ci_high": high,
        "kept_per_head": parts["kept_per_head"].mean(),
        "kv_bytes": parts["kv_bytes"].mean(),
        "exact_total": bool(parts["exact_total"].all()),
    }


def _pairs(
    entries: Sequence[Entry],
    cells: Mapping[tuple[str, str, Budget], Measured],
    budgets: Sequence[Budget],
    settings: Mapping[str, Any],
) -> pd.DataFrame:
    scale = scale_of(settings)
    rows: list[dict[str, Any]] = []
    shares: list[Pairs] = []
    for (one, first), (other, second) in itertools.combinations(enumerate(entries), 2):
        at = sorted(budget for name, method, budget in cells if (name, method) == first)
        single = {
            budget: paired
            for budget in at
            if (*second, budget) in cells
            and len(paired := pairs(cells[(*first, budget)], cells[(*second, budget)], scale.factor))
        }
        sections = {str(budget): paired for budget, paired in single.items()}
        if budgets and set(budgets) <= set(single):
            sections = {MEAN: over_budgets([single[budget] for budget in budgets]), **sections}
        for section, paired in sections.items():
            numbers, added = compare(paired, scale.gains)
            rows.append({"section": section, "one": one, "other": other, **numbers})
            shares.append(added)
    table = pd.DataFrame(rows).reindex(columns=[*PAIRS, "least_p"])
    known = table["difference"].notna()
    for family in (table["section"] == MEAN, table["section"] != MEAN):
        tested = table.index[known & family]
        if len(tested):
            outcome = joint_test([shares[row] for row in tested], _SEED, drawn_at_most=_FLIPS)
            table.loc[tested, "p_adjusted"] = outcome.adjusted
            table.loc[tested, "least_p"] = outcome.least
    table["within_noise"] = (table["p_adjusted"] >= LEVEL).astype("boolean").where(known)
    table["discriminates"] = (table["least_p"] < LEVEL).astype("boolean").where(known)
    return table[PAIRS]
