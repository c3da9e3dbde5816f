"""From what a user asks for to the methods that are measured: everything is checked before any work."""

from dataclasses import dataclass
from pathlib import Path

from cokv_bench.bench.options import BenchOptions
from cokv_bench.budget import Budget, PromptShare, tokens_of
from cokv_bench.errors import RequestError
from cokv_bench.models import Model
from cokv_bench.models.rotary import read_again_after
from cokv_bench.policies import Policy, find_method
from cokv_bench.policies.names import FULL, each_once
from cokv_bench.runs.grid import Grid
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.plan import Variant
from cokv_bench.runs.request import Request
from cokv_bench.runs.sources import StaticBudgets, static_budgets
from cokv_bench.tasks.options import TaskOptions


@dataclass(frozen=True)
class BenchRequest(BenchOptions):
    """A benchmark as it is asked for, with what its methods need.

    Attributes:
        any_weights: the weights are random, so head files of any model of the same shape are as good.
        budget_files: an earlier name for `heads`.
    """

    budget_files: tuple[Path, ...] = ()
    heads: tuple[Path, ...] = ()
    any_weights: bool = False

    def check(self) -> None:
        """Refuse at once what needs no model to be refused.

        Raises:
            RequestError: an unknown method, a budget that is not above the window, or an answer of one token.
        """
        self._policies().check()
        if self.new_tokens < 2:
            raise RequestError(
                f"{self.new_tokens} new token does not measure decoding, since the first comes from the prompt alone; "
                "ask for at least 2."
            )

    def variants(self, model: Model) -> tuple[Variant, ...]:
        """FullKV, and then every other method at every budget.

        Raises:
            RequestError: what `check` refuses, a prompt beyond the model's context, or no head budgets for a method.
        """
        self.check()
        longest = max(self.lengths)
        if longest + self.new_tokens > model.context:
            raise RequestError(
                f"A prompt of {longest} tokens and {self.new_tokens} new ones exceed the context of '{model.name}', "
                f"{model.context} tokens; shorten either."
            )
        for tokens in self.lengths:
            limit = read_again_after(model.config, tokens)
            # The last token of an answer is never fed back.
            if limit is not None and tokens + self.new_tokens - 1 > limit:
                raise RequestError(
                    f"A prompt of {tokens} tokens and {self.new_tokens} new ones cross the {limit} tokens at which "
                    f"'{model.name}' changes its rotary factors (longrope), and a compact cache cannot cross it; "
                    "ask for other lengths."
                )
        request = self._policies()
        found = [Variant(FULL, None, request.policy(FULL, None))]
        for method in each_once(self.methods):
            if method == FULL:
                continue
            heads = self._head_budgets(method, request, model) if find_method(method).rule is not None else None
            found += [self._variant(method, budget, request.policy(method, heads)) for budget in self.budgets]
        return tuple(found)

    def _variant(self, method: str, budget: Budget, policy: Policy) -> Variant:
        """A method at a budget, which is above its window for every length."""
        shortest = min(self.lengths)
        try:
            policy.check_budget(tokens_of(budget, shortest), policy.window or self.window)
        except RequestError as error:
            if not isinstance(budget, PromptShare):
                raise
            raise RequestError(f"'{method}' at {budget} of a prompt of {shortest} tokens: {error}") from None
        return Variant(method, budget, policy)

    def _policies(self) -> Request:
        """The methods with the options that `eval` gives them."""
        grid = Grid(self.methods, self.budgets, window=self.window)
        return Request(grid, TaskOptions(seed=self.seed), heads=HeadSources(self.heads, self.budget_files))

    def _head_budgets(self, method: str, request: Request, model: Model) -> StaticBudgets:
        return static_budgets(
            method,
            model,
            self.budgets,
            ["bench"],
            window=self.window,
            published_rounding=False,
            sources=request.heads,
            any_weights=self.any_weights,
        )["bench"]
