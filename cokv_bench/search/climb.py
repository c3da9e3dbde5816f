"""The way up of a search: minibatches that are followed, rounds to choose from, experts that serve examples best."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.limits import SearchLimits
from cokv_bench.search.ascent import Ascent, follow
from cokv_bench.search.examples import Point, SearchExamples
from cokv_bench.search.gaps import Gaps
from cokv_bench.search.ledger import Ends, Round, SearchLedger, best_round

#: Called with steps done, steps in all where they are known, and what is known.
Progress = Callable[[int, int | None, str], None]

#: Examples that a step follows at each budget.
BATCH = 10
#: Steps between two looks at the examples to choose on.
ROUND = 20
# Factors on the log-shares to choose from at the end; below 1 they lie closer to equal shares, which 0 falls back on.
_SHRINKAGE = (1.0, 0.85, 0.7, 0.5, 0.0)


def measure_ends(
    examples: SearchExamples,
    budgets: Sequence[int],
    only: Sequence[int] | None = None,
    progress: Callable[[str], None] = lambda note: None,
) -> Ends:
    """Score cases with the full cache, and with equal shares at each budget.

    Args:
        only: the cases to score; default all.
        progress: called before each answer.

    Returns:
        of every case; None also for those that were not asked for.
    """
    cases = len(examples.groups)
    asked = range(cases) if only is None else only
    ends = Ends([None] * cases, {str(budget): [None] * cases for budget in budgets})
    for place, case in enumerate(asked):
        progress(f"answer {place + 1} of {len(asked)}")
        if examples.counts(case):
            ends.full[case] = examples.full(case)
            for budget in budgets:
                ends.uniform[str(budget)][case] = examples.even(case, budget)
    return ends


@dataclass(frozen=True)
class Kept:
    """What is kept at a budget: log-shares [experts, layers, kv_heads], their step and factor, the share closed."""

    log_shares: Tensor
    step: int
    factor: float
    closed: float


@dataclass
class Climb:
    """A search on its way: steps, rounds in the ledger, and the choice at the end."""

    examples: SearchExamples
    ledger: SearchLedger
    budgets: list[int]
    seed: int
    stopping: SearchLimits
    experts: tuple[int, ...]
    progress: Progress
    began: float

    def __post_init__(self) -> None:
        self.earlier = self.ledger.rounds[-1].seconds if self.ledger.rounds else 0.0
        # The ledger has them in the order of the examples that its header names: those left out may be others.
        used = self.examples.used_cases
        ends = self.ledger.ends or self._measure_ends(used)
        if len(ends.full) != len(used):
            raise RequestError(
                f"The scores in {self.ledger.path} are of {len(ends.full)} cases, and this search has {len(used)}; the "
                "file is damaged, or it is of an earlier version with tasks left out: use another folder."
            )
        self.gaps = Gaps(self.examples.groups, ends.spread(used, len(self.examples.groups)))

    @property
    def seconds(self) -> float:
        """Time that all calls have searched."""
        return self.earlier + time.monotonic() - self.began

    def _measure_ends(self, used: list[int]) -> Ends:
        """Once a search."""
        last = self.stopping.last_step
        every = measure_ends(self.examples, self.budgets, used, lambda note: self.progress(0, last, note))
        ends = every.of(used)
        self.ledger.append(ends)
        return ends

    def climb(self, searched: list[int], chosen: list[int]) -> None:
        """Step until told to stop. Raises `RequestError` where no budget can change what is followed or chosen on."""
        self._check(searched, "optimise on")
        self._check(chosen, "choose on")
        by_group = self._by_group(searched)
        benchmarks = self._by_benchmark(by_group)
        rounds, last = self.ledger.rounds, self.stopping.last_step
        ascent = Ascent.resume(rounds[-1]) if rounds else Ascent.start(self._start())
        while not rounds or self.stopping.progress(ascent.step, self.seconds) < 1:
            # By steps and by what the ledger knows of time: a search that goes on repeats one that never stopped.
            before = rounds[-1].seconds if rounds else 0.0
            followed = []
            for _ in range(ROUND if last is None else min(ROUND, last - ascent.step)):
                followed.append(self._follow(ascent.parameters, ascent.step, benchmarks))
                ascent.advance(self.stopping.progress(ascent.step, before))
                self.progress(ascent.step, last, _note(rounds))
                if self.stopping.progress(0, self.seconds) >= 1:
                    break
            merit = self._merit(ascent.average, chosen)
            self.ledger.append(ascent.round(self.seconds, float(np.mean(followed)), merit))
            self.progress(ascent.step, last, _note(rounds))

    def choose(self, chosen: list[int]) -> dict[int, Kept]:
        """At each budget the best round's average, drawn towards equal shares as far as it helps."""
        rounds = {budget: best_round(self.ledger.rounds, budget) for budget in self.budgets}
        best = self._start()
        for budget, round_ in rounds.items():
            slots = [self._slot(expert, budget) for expert in range(len(self.experts))]
            best[slots] = torch.tensor(round_.average)[slots]
        merits = {factor: self._merit(factor * best, chosen) for factor in _SHRINKAGE}
        kept = {}
        for budget in self.budgets:
            at = {factor: merit[str(budget)] for factor, merit in merits.items()}
            factor = max(at, key=lambda one: at[one])
            slots = [self._slot(expert, budget) for expert in range(len(self.experts))]
            kept[budget] = Kept(factor * best[slots], rounds[budget].step, factor, at[factor])
        return kept

    def _start(self) -> Tensor:
        model = self.examples.model
        return torch.zeros(len(self.experts) * len(self.budgets), model.layers, model.kv_heads)

    def _slot(self, expert: int, budget: int) -> int:
        """Where the log-shares of an expert at a budget are among the parameters."""
        return expert * len(self.budgets) + self.budgets.index(budget)

    def _by_group(self, cases: Sequence[int]) -> list[list[int]]:
        """The cases that budgets can change, by task and utility."""
        return list(self.gaps.members(cases).values())

    def _check(self, cases: Sequence[int], purpose: str) -> None:
        if not self._by_group(cases):
            raise RequestError(
                f"No budget can change the answer of any example to {purpose}, since all these answers have a single "
                "token; search with other tasks, or more examples."
            )

    def _by_benchmark(self, by_group: list[list[int]]) -> list[list[list[int]]]:
        """The groups by the benchmark of their tasks."""
        found: dict[str, list[list[int]]] = {}
        for group in by_group:
            found.setdefault(self.examples.benchmark(group[0]), []).append(group)
        return list(found.values())

    def _follow(self, parameters: Tensor, step: int, benchmarks: list[list[list[int]]]) -> float:
        """Accumulate the gradient of a minibatch; what share of the gap it closes."""
        cases = [in_turn(benchmarks, step * BATCH + place, self.seed) for place in range(BATCH)]
        every = [(case, budget) for case in cases for budget in self.budgets]
        serving = self._serving(parameters.detach(), step, every, [group for groups in benchmarks for group in groups])
        points = [Point(*each, self.experts[expert]) for each, expert in zip(every, serving, strict=True)]
        weights = [1 / self.gaps.gap(point.case, point.budget) for point in points]
        shares = [parameters[self._slot(expert, budget)] for (_, budget), expert in zip(every, serving, strict=True)]
        scores = follow(self.examples, points, shares, weights)
        return float(np.mean([self._closed(*each) for each in zip(points, scores, strict=True)]))

    def _serving(
        self, parameters: Tensor, step: int, every: Sequence[tuple[int, int]], by_group: list[list[int]]
    ) -> list[int]:
        """The expert that serves best, of each case and budget: the same one for all utilities of an example."""
        count = len(self.experts)
        if count == 1:
            return [0] * len(every)
        if step < ROUND:
            tasks = list(dict.fromkeys(self._task(group[0]) for group in by_group))
            return [tasks.index(self._task(case)) % count for case, _ in every]
        asked = [(mate, budget) for case, budget in every for mate in self._mates(case)]
        best = self._best(asked, self._scores(parameters, asked))
        return [best[self._example(case), budget] for case, budget in every]

    def _example(self, case: int) -> int:
        return case // len(self.examples.utilities)

    def _task(self, case: int) -> str:
        return self.examples.rows[self._example(case)][0].name

    def _mates(self, case: int) -> list[int]:
        """A case and those of the same example under other utilities, as far as budgets can change their answers."""
        count = len(self.examples.utilities)
        first = self._example(case) * count
        return [mate for group in self.gaps.members(range(first, first + count)).values() for mate in group]

    def _best(self, every: Sequence[tuple[int, int]], scores: NDArray[np.float64]) -> dict[tuple[int, int], int]:
        """By example and budget the expert that closes most of the gap, summed over the example's utilities.

        Args:
            scores: [cases and budgets, experts].
        """
        closed: dict[tuple[int, int], NDArray[np.float64]] = {}
        for (case, budget), row in zip(every, scores, strict=True):
            key = self._example(case), budget
            own = np.array([self.gaps.closed(case, budget, float(score)) for score in row])
            closed[key] = closed.get(key, 0) + own
        return {key: int(each.argmax()) for key, each in closed.items()}

    def _scores(self, parameters: Tensor, every: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
        """[cases and budgets, experts]: the score of each expert."""
        numbered = [(case, budget, expert) for case, budget in every for expert in range(len(self.experts))]
        points = [Point(case, budget, self.experts[expert]) for case, budget, expert in numbered]
        shares = [parameters[self._slot(expert, budget)] for _, budget, expert in numbered]
        return np.array(self.examples.score(points, shares)).reshape(len(every), -1)

    def _closed(self, point: Point, score: float) -> float:
        return self.gaps.closed(point.case, point.budget, score)

    def _merit(self, parameters: Tensor, chosen: Sequence[int]) -> dict[str, float]:
        """Gain over gap at each budget, over the cases to choose on, each example by the expert that serves it best."""
        every = [(case, budget) for group in self._by_group(chosen) for case in group for budget in self.budgets]
        found: dict[int, dict[int, float]] = {budget: {} for budget in self.budgets}
        scores = self._scores(parameters, every)
        best = self._best(every, scores)
        for (case, budget), row in zip(every, scores, strict=True):
            found[budget][case] = float(row[best[self._example(case), budget]])
        return {str(budget): self.gaps.closed_over(budget, scores) for budget, scores in found.items()}


def in_turn(benchmarks: Sequence[Sequence[Sequence[int]]], number: int, seed: int) -> int:
    """The case whose turn it is: benchmarks by turns, the groups of each by turns, and the members of each by turns.

    A benchmark of one task counts as much as one of twenty, which are much alike.

    Args:
        benchmarks: of each its groups, of each group its cases.
        number: how many turns there were before.
    """
    number, place = divmod(number, len(benchmarks))
    by_group = benchmarks[np.random.default_rng([seed, 3, number]).permutation(len(benchmarks))[place]]
    turn, place = divmod(number, len(by_group))
    group = by_group[np.random.default_rng([seed, 1, turn]).permutation(len(by_group))[place]]
    cycle, member = divmod(turn, len(group))
    return group[np.random.default_rng([seed, 2, cycle, group[0]]).permutation(len(group))[member]]


def _note(rounds: Sequence[Round]) -> str:
    if not rounds:
        return "first steps"
    best = max(rounds, key=lambda one: one.merit)
    return f"closes {rounds[-1].merit:.0%} of the gap to the full cache, best {best.merit:.0%} after step {best.step}"
