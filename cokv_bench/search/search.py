"""Search for the split of a total over the KV heads that serves best at the deployed budget.

The utility is the log-probability of answers, budgets are log-shares, and their gradient comes from one backward pass
over the prefilled prompts (`cokv_bench.kvcache.ranked`). Minibatches of some examples keep a step cheap; others, that
no step follows, choose the round to keep.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cokv_bench.budgets.head_budgets import HeadBudgets
from cokv_bench.budgets.head_shares import WINDOW, HeadShares
from cokv_bench.errors import RequestError
from cokv_bench.files import file_sha256
from cokv_bench.limits import SearchLimits
from cokv_bench.search.ascent import Ascent, follow
from cokv_bench.search.examples import Point, SearchExamples
from cokv_bench.search.gaps import Gaps
from cokv_bench.search.ledger import Ends, Round, SearchLedger, best_round
from cokv_bench.tasks import split_rule
from cokv_bench.tasks.base import made_from
from cokv_bench.tasks.prompts import reading

#: Called with steps done, steps in all where they are known, and what is known.
Progress = Callable[[int, int | None, str], None]

#: Examples that a step follows at each budget.
BATCH = 10
#: Steps between two looks at the examples to choose on.
ROUND = 20
# Factors on the log-shares to choose from at the end; below 1 they lie closer to equal shares, which 0 falls back on.
_SHRINKAGE = (1.0, 0.85, 0.7, 0.5, 0.0)


def search(
    examples: SearchExamples,
    folder: Path,
    budgets: Sequence[int],
    *,
    seed: int,
    stopping: SearchLimits,
    ranking: int = 0,
    progress: Progress = lambda done, total, note: None,
) -> HeadShares:
    """Search, write the ledger `search.jsonl`, `shares.json` and `cokv-search-<budget>.budgets.json` into a folder.

    Several budgets are searched side by side on the same prompts, each with log-shares of its own. A search that is
    there already is gone on with; with the same number of steps it ends with the same ledger but for the seconds,
    whether it was stopped or not.

    Args:
        budgets: tokens per KV head on average, window included.
        ranking: which of the rankings of the examples the shares are for. What is closed is told of the gap between
            equal shares under the first ranking and the full cache, whichever it is.
        progress: called after each step.

    Raises:
        RequestError: budgets that are not above the window or not below the longest prompt, too few examples, a ledger
            of another search, or a folder that cannot be written.
    """
    (shares,) = _searched(examples, folder, budgets, (ranking,), seed, stopping, progress)
    shares.save(folder / "shares.json")
    for budget in shares.knots:
        budget_file(shares, budget).save(folder / f"cokv-search-{budget}.budgets.json")
    return shares


def search_experts(
    examples: SearchExamples,
    folder: Path,
    budgets: Sequence[int],
    *,
    rankings: Sequence[int],
    seed: int,
    stopping: SearchLimits,
    progress: Progress = lambda done, total, note: None,
) -> list[HeadShares]:
    """Search several splits together, and write the ledger `search.jsonl` and `expert-<number>.shares.json`.

    Each followed example improves the expert that serves it best at its budget (hard EM), so that experts come to
    differ. In the first round nobody serves anything best yet, and tasks go round the experts. What is told to be
    closed is what the best expert of each example closes, which nobody can choose without the answers: a ceiling.

    Args:
        rankings: by expert, which of the rankings of the examples it has.

    Raises:
        RequestError: as `search` does, or fewer than two experts.
    """
    if len(rankings) < 2:
        raise RequestError("Experts that are searched together are two at least; one is a search of its own.")
    found = _searched(examples, folder, budgets, tuple(rankings), seed, stopping, progress)
    for number, shares in enumerate(found, start=1):
        shares.save(folder / f"expert-{number}.shares.json")
    return found


def _searched(
    examples: SearchExamples,
    folder: Path,
    budgets: Sequence[int],
    experts: tuple[int, ...],
    seed: int,
    stopping: SearchLimits,
    progress: Progress,
) -> list[HeadShares]:
    """The shares of each expert; the ledger is in the folder."""
    _check_budgets(examples, budgets)
    searched, chosen = examples.parts()
    wanted = sorted(set(budgets))
    rows = examples.used
    made = made_from(rows)
    names = [examples.rankings[place] for place in experts]
    plain = examples.rankings[0] == WINDOW and names == [WINDOW]
    header = {
        "model": examples.model.fingerprint,
        "tasks": made["tasks"],
        "utilities": examples.utilities,
        "window": examples.window,
        "kernel": examples.kernel,
        "pooling": examples.pooling,
        # The first is the one of the gap, the others are those of the experts.
        **({} if plain else {"rankings": [examples.rankings[0], *names]}),
        "max_length": examples.encoding.max_length,
        "question_agnostic": examples.encoding.question_agnostic,
        "reading": reading(examples.model, [example for _, example in rows], examples.encoding),
        "budgets": wanted,
        "seed": seed,
        "batch": BATCH,
        "examples": made["examples"],
        **({"choose_on": examples.choose_on} if examples.choose_on else {}),
        **split_rule(task for task, _ in rows),
    }
    with SearchLedger.resume(folder / "search.jsonl", header) as ledger:
        run = _Run(examples, ledger, wanted, seed, stopping, experts, progress, time.monotonic())
        run.climb(searched, chosen)
        kept = run.choose(chosen)
    search_ = {
        "seed": seed,
        "steps": ledger.rounds[-1].step,
        "seconds": round(ledger.rounds[-1].seconds, 1),
        "chosen_step": {str(budget): kept[budget].step for budget in wanted},
        "shrinkage": {str(budget): kept[budget].factor for budget in wanted},
        "gap_closed": {str(budget): kept[budget].closed for budget in wanted},
        "ledger_sha256": file_sha256(folder / "search.jsonl"),
    }
    return [
        HeadShares(
            knots=tuple(wanted),
            tables=torch.stack([kept[budget].log_shares[expert] for budget in wanted]).double().numpy(),
            window=examples.window,
            utilities=examples.utilities,
            model=examples.model.fingerprint,
            kernel=examples.kernel,
            pooling=examples.pooling,
            scorer=name,
            **made,
            search=search_ if len(experts) == 1 else {**search_, "expert": expert + 1, "experts": len(experts)},
        )
        for expert, name in enumerate(names)
    ]


def measure_ends(
    examples: SearchExamples, budgets: Sequence[int], progress: Callable[[str], None] = lambda note: None
) -> Ends:
    """Score every example with the full cache, and with equal shares at each budget.

    Args:
        progress: called before each answer.
    """
    cases = len(examples.groups)
    ends = Ends([None] * cases, {str(budget): [None] * cases for budget in budgets})
    for case in range(cases):
        progress(f"answer {case + 1} of {cases}")
        if examples.counts(case):
            ends.full[case] = examples.full(case)
            for budget in budgets:
                ends.uniform[str(budget)][case] = examples.even(case, budget)
    return ends


def budget_file(shares: HeadShares, budget: int) -> HeadBudgets:
    """The budget file of one budget."""
    rule = {
        "text": "searched at the deployed total: gradient ascent on the answers' log-probability",
        "parameters": {
            "method": "cokv-search",
            "kernel": shares.kernel,
            "pooling": shares.pooling,
            **({} if shares.scorer == WINDOW else {"scorer": shares.scorer}),
            **shares.search,
        },
    }
    tokens = shares.budgets(budget, window=shares.window)
    return HeadBudgets(
        shares.model,
        budget,
        shares.window,
        tokens,
        rule,
        tasks=shares.tasks,
        examples=shares.examples,
        documents=shares.documents,
    )


def _check_budgets(examples: SearchExamples, budgets: Sequence[int]) -> None:
    if not budgets:
        raise RequestError("A search needs a budget; name one with --budget.")
    for budget in budgets:
        if budget <= examples.window:
            raise RequestError(
                f"A budget of {budget} tokens leaves nothing beyond the window of {examples.window} to share out."
            )
    longest = examples.longest_prompt()
    if max(budgets) >= longest:
        raise RequestError(
            f"A budget of {max(budgets)} tokens keeps all of every prompt (the longest has {longest}); search on "
            "longer prompts, or for a smaller budget."
        )


@dataclass(frozen=True)
class _Kept:
    """What is kept at a budget: log-shares [experts, layers, kv_heads], their step and factor, the share closed."""

    log_shares: Tensor
    step: int
    factor: float
    closed: float


@dataclass
class _Run:
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
        ends = self.ledger.ends or self._measure_ends()
        if len(ends.full) != len(self.examples.groups):
            raise RequestError("The search's ledger search.jsonl is damaged; move it away and search again.")
        self.gaps = Gaps(self.examples.groups, ends)

    @property
    def seconds(self) -> float:
        """Time that all calls have searched."""
        return self.earlier + time.monotonic() - self.began

    def _measure_ends(self) -> Ends:
        """Once a search."""
        ends = measure_ends(self.examples, self.budgets, lambda note: self.progress(0, self.stopping.last_step, note))
        self.ledger.append(ends)
        return ends

    def climb(self, searched: list[int], chosen: list[int]) -> None:
        """Step until told to stop."""
        by_group = self._by_group(searched)
        rounds, last = self.ledger.rounds, self.stopping.last_step
        ascent = Ascent.resume(rounds[-1]) if rounds else Ascent.start(self._start())
        while not rounds or self.stopping.progress(ascent.step, self.seconds) < 1:
            # By steps and by what the ledger knows of time: a search that goes on repeats one that never stopped.
            before = rounds[-1].seconds if rounds else 0.0
            followed = []
            for _ in range(ROUND if last is None else min(ROUND, last - ascent.step)):
                followed.append(self._follow(ascent.parameters, ascent.step, by_group))
                ascent.advance(self.stopping.progress(ascent.step, before))
                self.progress(ascent.step, last, _note(rounds))
                if self.stopping.progress(0, self.seconds) >= 1:
                    break
            merit = self._merit(ascent.average, chosen)
            self.ledger.append(ascent.round(self.seconds, float(np.mean(followed)), merit))
            self.progress(ascent.step, last, _note(rounds))

    def choose(self, chosen: list[int]) -> dict[int, _Kept]:
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
            kept[budget] = _Kept(factor * best[slots], rounds[budget].step, factor, at[factor])
        return kept

    def _start(self) -> Tensor:
        model = self.examples.model
        return torch.zeros(len(self.experts) * len(self.budgets), model.layers, model.kv_heads)

    def _slot(self, expert: int, budget: int) -> int:
        """Where the log-shares of an expert at a budget are among the parameters."""
        return expert * len(self.budgets) + self.budgets.index(budget)

    def _by_group(self, cases: Sequence[int]) -> list[list[int]]:
        """The cases that budgets can change, by task and utility."""
        found = list(self.gaps.members(cases).values())
        if not found:
            raise RequestError("No budget changes the answer of any example: all answers end at their first token.")
        return found

    def _follow(self, parameters: Tensor, step: int, by_group: list[list[int]]) -> float:
        """Accumulate the gradient of a minibatch; what share of the gap it closes."""
        cases = [self._turn(by_group, step * BATCH + place) for place in range(BATCH)]
        every = [(case, budget) for case in cases for budget in self.budgets]
        serving = self._serving(parameters.detach(), step, every, by_group)
        points = [Point(*each, self.experts[expert]) for each, expert in zip(every, serving, strict=True)]
        weights = [1 / self.gaps.gap(point.case, point.budget) for point in points]
        shares = [parameters[self._slot(expert, budget)] for (_, budget), expert in zip(every, serving, strict=True)]
        scores = follow(self.examples, points, shares, weights)
        return float(np.mean([self._closed(*each) for each in zip(points, scores, strict=True)]))

    def _serving(
        self, parameters: Tensor, step: int, every: Sequence[tuple[int, int]], by_group: list[list[int]]
    ) -> list[int]:
        """The expert that serves best, of each case and budget."""
        count = len(self.experts)
        if count == 1:
            return [0] * len(every)
        if step < ROUND:
            return [next(place for place, group in enumerate(by_group) if case in group) % count for case, _ in every]
        return [int(best) for best in self._scores(parameters, every).argmax(axis=1)]

    def _scores(self, parameters: Tensor, every: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
        """[cases and budgets, experts]: the score of each expert."""
        numbered = [(case, budget, expert) for case, budget in every for expert in range(len(self.experts))]
        points = [Point(case, budget, self.experts[expert]) for case, budget, expert in numbered]
        shares = [parameters[self._slot(expert, budget)] for _, budget, expert in numbered]
        return np.array(self.examples.score(points, shares)).reshape(len(every), -1)

    def _turn(self, by_group: list[list[int]], number: int) -> int:
        """The case whose turn it is: groups by turns, and the members of each by turns."""
        turn, place = divmod(number, len(by_group))
        group = by_group[np.random.default_rng([self.seed, 1, turn]).permutation(len(by_group))[place]]
        cycle, member = divmod(turn, len(group))
        return group[np.random.default_rng([self.seed, 2, cycle, group[0]]).permutation(len(group))[member]]

    def _closed(self, point: Point, score: float) -> float:
        return self.gaps.closed(point.case, point.budget, score)

    def _merit(self, parameters: Tensor, chosen: Sequence[int]) -> dict[str, float]:
        """Gain over gap at each budget, over the cases to choose on, each by the expert that serves it best."""
        every = [(case, budget) for group in self._by_group(chosen) for case in group for budget in self.budgets]
        found: dict[int, dict[int, float]] = {budget: {} for budget in self.budgets}
        for (case, budget), score in zip(every, self._scores(parameters, every).max(axis=1), strict=True):
            found[budget][case] = float(score)
        return {str(budget): self.gaps.closed_over(budget, scores) for budget, scores in found.items()}


def _note(rounds: Sequence[Round]) -> str:
    if not rounds:
        return "first steps"
    best = max(rounds, key=lambda one: one.merit)
    return f"closes {rounds[-1].merit:.0%} of the gap to the full cache, best {best.merit:.0%} after step {best.step}"
