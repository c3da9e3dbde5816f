"""From a method's name, what a run asks of all methods, its head budgets and its chosen knobs to its policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from cokv_bench.budget import Budget, in_tokens
from cokv_bench.budgets.knobs import Options
from cokv_bench.policies import Policy, find_method
from cokv_bench.policies.halves import Half
from cokv_bench.policies.registry import Method
from cokv_bench.runs.sources import StaticBudgets

#: No chosen knobs.
AS_PUBLISHED: Options = MappingProxyType({})
# How SnapKV and the methods that rank like it look and pool, where nobody says otherwise.
_RANKING: Options = {"window": 8, "kernel": 7, "pooling": "max"}


@dataclass(frozen=True)
class MethodSettings:
    """What a run asks of all its methods, as far as they take it.

    An option in a method's name comes first; then what is asked for here; then what its head file was made with; then
    what was chosen for it; then the published setting.

    Attributes:
        window, kernel, pooling: None for each method's own.
        sinks: protected first tokens of all methods; None for those that a method's head file was made with, else for
            each method's own, which is none but for StreamingLLM.
    """

    window: int | None = None
    kernel: int | None = None
    pooling: str | None = None
    published_rounding: bool = False
    seed: int = 0
    sinks: int | None = None

    def check(self, methods: Sequence[str], budgets: Sequence[Budget]) -> None:
        """Refuse what needs no model to be refused; shares of prompts need these.

        Raises:
            RequestError: an unknown method or option, a value that it cannot have, or a budget that is not above a
                method's window.
        """
        for method in methods:
            policy = self.policy(method, None)
            for budget in in_tokens(budgets):
                policy.check_budget(budget, find_method(method).fixed.get("window", self.window or 1))

    def policy(self, method: str, heads: StaticBudgets | None, knobs: Options = AS_PUBLISHED) -> Policy:
        """The policy of a method.

        Args:
            heads: its head budgets, None where it has none or they are not known yet.
            knobs: its chosen options.
        """
        found = self._found(method, heads)
        ranking = self.ranking(method, heads, knobs)
        wanted = {**found.scorer.observes, **knobs, **ranking}
        wanted |= {"seed": self.seed, "published_rounding": self.published_rounding}
        sinks = _made_for(method, heads).get("sinks") if self.sinks is None else self.sinks
        if sinks is not None:
            wanted["sinks"] = sinks
        if heads is not None:
            # What every head keeps is taken off before a rule shares out the rest.
            kept = ranking["window"] + found.protected(wanted)
            wanted["budgets"] = partial(heads.tokens, window=kept, knobs=knobs)
        return found.policy(**{name: value for name, value in wanted.items() if name in found.options})

    def ranking(
        self, method: str | None = None, heads: StaticBudgets | None = None, knobs: Options = AS_PUBLISHED
    ) -> dict[str, Any]:
        """Window, kernel and pooling of a method; without a method, of those that have none of their own."""
        scorer = Half(None) if method is None else self._found(method, heads).scorer
        # The later comes first.
        said = {**scorer.published, **knobs, **_made_for(method, heads), **self._asked}
        return {name: {**said, **scorer.fixed}.get(name, usual) for name, usual in _RANKING.items()}

    @property
    def _asked(self) -> dict[str, Any]:
        asked = {"window": self.window, "kernel": self.kernel, "pooling": self.pooling}
        return {name: value for name, value in asked.items() if value is not None}

    def _found(self, method: str, heads: StaticBudgets | None) -> Method:
        """The method; a head file that was made for a ranking brings it, and a pair has a ranking of its own.

        What is asked for comes before what the file's ranking says, as it does before the rest of the file.
        """
        found = find_method(method)
        if heads is None or found.name.split is not None or "scorer" not in heads.ranking:
            return found
        own, other = found.scorer.fixed, found.with_ranking(heads.ranking["scorer"])
        fixed = {name: value for name, value in other.scorer.fixed.items() if name in own or name not in self._asked}
        return replace(other, scorer=replace(other.scorer, fixed=fixed))

    def published_windows(self, methods: Sequence[str]) -> dict[str, dict[str, int]]:
        """For a run's configuration: the published windows of methods whose names give none, where they are others."""
        usual = self.ranking()["window"]
        own = {each: self.ranking(each)["window"] for each in methods if "window" not in find_method(each).fixed}
        found = {method: window for method, window in own.items() if window != usual}
        return {"windows": found} if found else {}

    def description(self, method: str, heads: Mapping[str, StaticBudgets]) -> Any:
        """What decides a method's head budgets: one description where all tasks have the same, else one per task.

        Window, kernel and pooling are told where they are others than methods without their own have, and the head
        file's ranking does not say them.

        Args:
            heads: by task.
        """
        described = {}
        for task, source in heads.items():
            ranking, usual = self.ranking(method, source), self.ranking()
            of_file = set(self._found(method, source).scorer.fixed) - set(find_method(method).scorer.fixed)
            told = {name: value for name, value in ranking.items() if value != usual[name] and name not in of_file}
            described[task] = {**source.description, **told}
        first = next(iter(described.values()))
        return first if all(each == first for each in described.values()) else described


def _made_for(method: str | None, heads: StaticBudgets | None) -> dict[str, Any]:
    """What a method's head file was made with, as far as it concerns the method."""
    return {} if heads is None or method is None else find_method(method).ranking_of(heads.ranking)
