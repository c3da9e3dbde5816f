"""What a search learns from: prefilled prompts in the order of their ranks, with the answers to score."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cokv_bench.budgets.apportion import apportion
from cokv_bench.budgets.head_shares import HeadShares
from cokv_bench.errors import RequestError
from cokv_bench.game.head_game import playing_rows
from cokv_bench.game.utilities import get_utility
from cokv_bench.kvcache import Prompt
from cokv_bench.kvcache.ranked import RankedRow, answer_logprobs
from cokv_bench.models import Model
from cokv_bench.models.finite import not_finite
from cokv_bench.policies.names import each_once
from cokv_bench.policies.policy import Policy
from cokv_bench.policies.registry import find_method, ranking_name, ranking_policy
from cokv_bench.search.dealing import deal
from cokv_bench.search.prompts import Answering, RankedPrompts
from cokv_bench.search.shares import split
from cokv_bench.tasks import Example, Split, Task
from cokv_bench.tasks.families import check_among, check_some, is_of
from cokv_bench.tasks.prompts import Encoding, encode_parts
from cokv_bench.tasks.registry import family_of

# Tokens that one pass reads: enough for matrix products at full speed, few enough that the gradient's memory is small.
_TOKENS_A_PASS = 160


@dataclass(frozen=True)
class Point:
    """One case at one budget, its tokens in the order of one of the rankings."""

    case: int
    budget: int
    ranking: int = 0


class SearchExamples:
    """Examples with everything that scoring budgets on them needs, prefilled once each.

    A case is an example under one of the utilities: the same prompt, another answer.

    Attributes:
        rows: the examples with their tasks.
        utilities: names of the utilities.
        rankings: names of scorers, with options where they have some, that order the tokens of each head; they say
            how many queries are observed where the scorer has a published number of them.
        kernel, pooling: how scores are pooled before tokens are ranked, as far as rankings pool and do not say it; None
            for each ranking's own.
        groups: by case, its task and utility.
        choose_on: tasks, or benchmarks of tasks, that choose and that no step follows; none for some documents of every
            task.
    """

    def __init__(
        self,
        model: Model,
        tasks: Sequence[Task],
        utilities: Sequence[str],
        *,
        window: int,
        kernel: int | None = None,
        pooling: str | None = None,
        rankings: Sequence[str] = ("window",),
        budgets: Sequence[int] = (),
        choose_on: Sequence[str] = (),
        encoding: Encoding | None = None,
        split: Split = "profile",
        memory_limit: int | None = None,
        spill_folder: Path | None = None,
        prompts: Path | None = None,
    ) -> None:
        """From a split of tasks: "profile" to search on, "test" to judge what was found.

        Args:
            budgets: at which tokens are ranked, where a ranking depends on the budget (one that drafts).
            memory_limit: bytes for prompts; default 60% of what is free. Prompts beyond it go to a file.
            spill_folder: where that file is made; default the system's temporary folder.
            prompts: folder whose prompts are not prefilled again, and that those which it lacks are written to.

        Raises:
            RequestError: a utility without a gradient, an unknown ranking, a kernel or pooling that is none, examples
                that do not serve it, see `playing_rows`, or a folder that cannot be written.
        """
        self.model, self.window, self.utilities = model, window, tuple(dict.fromkeys(utilities))
        self.kernel, self.pooling = kernel, pooling
        self.encoding = encoding or Encoding()
        chosen = [get_utility(name) for name in self.utilities]
        self._of_tokens = [utility.of_tokens for utility in chosen]
        answers: list[Answering] = []
        for utility in chosen:
            if utility.answer is None:
                raise RequestError(
                    f"The utility '{utility.name}' has no gradient to follow; search with loglik, or with agreement or "
                    "acceptance, which need no labels."
                )
            answers.append(utility.answer)
        # Checked once, for the utility that asks most.
        strictest = max(chosen, key=lambda utility: utility.needs_answers)
        self.rows = playing_rows(model, tasks, strictest, self.encoding, split)
        self.groups = [f"{task.name} {name}" for task, _ in self.rows for name in self.utilities]
        self.choose_on = tuple(choose_on)
        self._left_out: tuple[str, ...] = ()
        self._ends: dict[tuple[int, int | None], float] = {}
        check_among(self.choose_on, self._tasks, "this search", "choose on")
        self.rankings = tuple(each_once(map(ranking_name, rankings)))
        self._policies = [_policy(name, window=window, **self._pooling) for name in self.rankings]
        for policy in self._policies:
            if policy.window != window:
                raise RequestError(
                    f"The ranking '{policy.name}' has a window of its own, and this search has one of {window}; search "
                    f"with --window {policy.window}, or leave it out of the name."
                )
        self._prompts = RankedPrompts(
            model,
            self.rows,
            dict(zip(self.utilities, answers, strict=True)),
            self._policies,
            budgets=budgets,
            window=window,
            encoding=self.encoding,
            memory_limit=memory_limit,
            spill_folder=spill_folder,
            kept=prompts,
        )

    def without(self, tasks: Sequence[str]) -> "SearchExamples":
        """The same prompts, of which those of some tasks (or benchmarks of tasks) are neither followed nor chosen on.

        Raises:
            RequestError: no example is of such a task, nothing is left to follow, or nothing to choose on.
        """
        check_some(tasks, self._tasks, "this search", "leave out")
        other = copy(self)
        other._left_out = (*self._left_out, *tasks)
        other.parts()
        return other

    def benchmark(self, case: int) -> str:
        """The benchmark of a case's task."""
        return family_of(self.rows[case // len(self.utilities)][0].name).name

    @property
    def _tasks(self) -> set[str]:
        return {task.name for task, _ in self.rows}

    @property
    def used(self) -> list[tuple[Task, Example]]:
        """The examples that are followed or chosen on."""
        numbers = dict.fromkeys(case // len(self.utilities) for case in self.used_cases)
        return [self.rows[number] for number in numbers]

    @property
    def used_cases(self) -> list[int]:
        """The cases of these examples, in the order of the examples."""
        searched, chosen = self.parts()
        return sorted(searched + chosen)

    def longest_prompt(self) -> int:
        """Tokens of the longest prompt that is followed or chosen on."""
        return max(len(encode_parts(self.model, example, self.encoding).prompt) for _, example in self.used)

    def check_budgets(self, budgets: Sequence[int]) -> None:
        """Refuse what no search can have.

        Raises:
            RequestError: no budget, one that is not above what some ranking keeps in every head, or one that keeps all
                of every prompt.
        """
        if not budgets:
            raise RequestError("A search needs a budget; name one with --budget.")
        for policy in self._policies:
            for budget in budgets:
                policy.check_budget(budget, self.window)
        longest = self.longest_prompt()
        if max(budgets) >= longest:
            raise RequestError(
                f"A budget of {max(budgets)} tokens keeps all of every prompt (the longest has {longest}); search on "
                "longer prompts, or for a smaller budget."
            )

    @property
    def counted(self) -> list[int]:
        """The cases that count."""
        return [case for case in range(len(self.groups)) if self.counts(case)]

    def counts(self, case: int) -> bool:
        """Whether budgets can change the answer's score: not where all of it is the first token, see `RankedRow`."""
        self._prompt(case)
        question, answer = self._text(case)
        return len(question) > 0 or len(answer) > 1

    def protected(self, rankings: Sequence[int]) -> list[int] | None:
        """First tokens that every head keeps under each of some rankings; None where a ranking alone protects as many.

        An earlier release searched without the protection that its shares were deployed with.
        """
        sinks = [self._policies[place].sinks for place in rankings]
        alone = [ranking_policy(self.rankings[place]).sinks for place in rankings]
        return None if sinks == alone else sinks

    def pooled(self, place: int) -> dict[str, Any]:
        """Kernel and pooling of one of the rankings, as far as it has them: of its name, of all, or its own."""
        method = find_method(self.rankings[place])
        said = {**method.scorer.published, **self._pooling, **method.scorer.fixed}
        return {name: said[name] for name in ("kernel", "pooling") if name in method.options}

    @property
    def _pooling(self) -> dict[str, Any]:
        asked = {"kernel": self.kernel, "pooling": self.pooling}
        return {name: value for name, value in asked.items() if value is not None}

    def parts(self) -> tuple[list[int], list[int]]:
        """The cases to search on and to choose on, see `deal`.

        Raises:
            RequestError: no task has two documents, or all tasks choose.
        """
        searched, chosen = deal(self.rows, self.choose_on, self._left_out)
        return self._cases(searched), self._cases(chosen)

    def _cases(self, numbers: Sequence[int]) -> list[int]:
        count = len(self.utilities)
        return [number * count + place for number in numbers for place in range(count)]

    @property
    def share_documents(self) -> bool:
        """Whether some examples are of one document, so that an earlier release, which dealt examples, parted them."""
        documents = [example.document for task, example in self.rows if not is_of(task.name, self._left_out)]
        return len(set(documents)) < len(documents)

    def score(
        self, points: Sequence[Point], log_shares: Sequence[Tensor], weights: Sequence[float] | None = None
    ) -> list[float]:
        """The utility of each point when the heads share its budget as told.

        Args:
            log_shares: one float [layers, kv_heads] a point.
            weights: a number a point; if given, the derivative of the weighted sum of the scores is added to what
                the log-shares were made from, each from a graph of its own.
        """
        rows = [self._row(point, shares, weights is not None) for point, shares in zip(points, log_shares, strict=True)]
        return self._measure(rows, weights)

    def score_all(self, cases: Sequence[int], budget: int, log_shares: Tensor) -> NDArray[np.float64]:
        """The score of each case when all have the same budget and log-shares, float [layers, kv_heads]."""
        points = [Point(case, budget) for case in cases]
        return np.array(self.score(points, [log_shares] * len(points)))

    def full(self, case: int) -> float:
        """The same with the full cache."""
        if (case, None) not in self._ends:
            prompt = self._prompt(case)
            kept = torch.full((prompt.layers, prompt.kv_heads), max(prompt.tokens - self.window, 0))
            self._ends[case, None] = self._measure([self._asked(case, prompt, kept)])[0]
        return self._ends[case, None]

    def even(self, case: int, budget: int) -> float:
        """The same with equal shares, the tokens in the order of the first ranking."""
        if (case, budget) not in self._ends:
            equal = torch.zeros(self.model.layers, self.model.kv_heads)
            self._ends[case, budget] = self.score([Point(case, budget)], [equal])[0]
        return self._ends[case, budget]

    def _prompt(self, case: int) -> Prompt:
        return self._prompts.get(case // len(self.utilities))

    def _row(self, point: Point, log_shares: Tensor, gradient: bool) -> RankedRow:
        prompt = self._prompt(point.case)
        protected = self._policies[point.ranking].sinks
        room = max(prompt.tokens - self.window - protected, 0)
        heads = prompt.layers * prompt.kv_heads
        total = min(point.budget - self.window - protected, room) * heads
        values = log_shares.detach().double()
        kept = protected + torch.from_numpy(apportion((values - values.max()).exp().numpy(), total, room))
        wanted = protected + split(log_shares, total, room) if gradient else None
        order = self._prompts.order(point.case // len(self.utilities), point.ranking, point.budget)
        return self._asked(point.case, prompt, kept, wanted, order)

    def _asked(
        self, case: int, prompt: Prompt, kept: Tensor, wanted: Tensor | None = None, order: Tensor | None = None
    ) -> RankedRow:
        """A case's answer after its prompt, judged by its utility."""
        of_tokens = self._of_tokens[case % len(self.utilities)]
        return RankedRow(prompt, *self._text(case), kept, wanted, order, of_tokens)

    def _measure(self, rows: Sequence[RankedRow], weights: Sequence[float] | None = None) -> list[float]:
        # Rows of like length side by side, as many as make a pass.
        order = sorted(range(len(rows)), key=lambda index: len(rows[index].read))
        found = [0.0] * len(rows)
        batch: list[int] = []
        for place, index in enumerate(order):
            batch.append(index)
            following = order[place + 1 : place + 2]
            if following and len(rows[following[0]].read) * (len(batch) + 1) <= _TOKENS_A_PASS:
                continue
            with torch.set_grad_enabled(weights is not None):
                scores = answer_logprobs(self.model, [rows[index] for index in batch])
            if weights is not None:
                (scores * torch.tensor([weights[index] for index in batch], device=scores.device)).sum().backward()
            for index, score in zip(batch, scores.tolist(), strict=True):
                found[index] = score
            batch = []
        if not np.isfinite(found).all():
            raise not_finite(self.model, "log-probabilities of an answer")
        return found

    def _text(self, case: int) -> tuple[Tensor, Tensor]:
        """Ids of the question after a case's prompt and of its answer; the prompt is there."""
        return self._prompts.text(*divmod(case, len(self.utilities)))


def shared_sinks(ranking: str) -> int:
    """The first tokens that shares protect under a ranking; alone, one that puts them first protects none."""
    return find_method(f"{ranking}+{HeadShares.method}").protected({})


def _policy(name: str, **options: Any) -> Policy:
    """A ranking with the first tokens that shares protect under it."""
    return replace(ranking_policy(name, **options), sinks=shared_sinks(name))
