"""From what a user asks for to the methods that are measured: everything is checked before any work."""

from dataclasses import dataclass
from pathlib import Path

from cokv_bench.bench.options import BenchOptions
from cokv_bench.budgets import HeadBudgets
from cokv_bench.errors import RequestError
from cokv_bench.models import Model
from cokv_bench.models.rotary import read_again_after
from cokv_bench.runs.grid import Grid
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.plan import Variant
from cokv_bench.runs.request import Request
from cokv_bench.runs.sources import STATIC_METHODS, StaticBudgets, fixed_tokens, static_budgets
from cokv_bench.tasks.options import TaskOptions


@dataclass(frozen=True)
class BenchRequest(BenchOptions):
    """A benchmark as it is asked for, with what its methods need.

    Attributes:
        any_weights: the weights are random, so budget files of any model of the same shape are as good.
    """

    budget_files: tuple[Path, ...] = ()
    any_weights: bool = False

    def check(self) -> None:
        """Refuse at once what needs no model to be refused.

        Raises:
            RequestError: an unknown method, a budget that is not above the window, or an answer of one token.
        """
        self._policies().check()
        if self.new_tokens < 2:
            raise RequestError(
                f"{self.new_tokens} new token says nothing of decoding, since the first comes from the prompt alone; "
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
                    f"'{model.name}' changes its rotary factors (longrope), and a compact cache cannot go on there; "
                    "ask for other lengths."
                )
        policies = self._policies()
        found = [Variant("full", None, policies.policy("full", None))]
        for method in self.methods:
            if method == "full":
                continue
            heads = self._head_budgets(method, model) if method in STATIC_METHODS else None
            found += [Variant(method, budget, policies.policy(method, heads)) for budget in self.budgets]
        return tuple(found)

    def _policies(self) -> Request:
        """The methods with the options that `eval` gives them."""
        return Request(Grid(self.methods, self.budgets, window=self.window), TaskOptions(seed=self.seed))

    def _head_budgets(self, method: str, model: Model) -> StaticBudgets:
        files = [HeadBudgets.load(path) for path in self.budget_files]
        mine = [file for file in files if file.method in (None, method)]
        if mine and self.any_weights:
            return self._of_shape(method, mine, model)
        try:
            return static_budgets(
                method,
                model,
                self.budgets,
                ["bench"],
                window=self.window,
                published_rounding=False,
                sources=HeadSources(budget_files=self.budget_files),
            )["bench"]
        except RequestError:
            if mine:
                raise
            raise RequestError(
                f"No head budgets for '{method}' on '{model.name}' are at hand; name a budget JSON with --budgets "
                "(`cokv-bench budgets` and `cokv-bench search` write them)."
            ) from None

    def _of_shape(self, method: str, files: list[HeadBudgets], model: Model) -> StaticBudgets:
        """Budgets from files of any model of this shape: how long a cache takes does not depend on whose it is."""
        shape = (model.layers, model.kv_heads)
        for file in files:
            if file.tokens.shape != shape:
                raise RequestError(
                    f"The budget file {file.path} is for {file.tokens.shape[0]} layers x {file.tokens.shape[1]} KV "
                    f"heads, but '{model.name}' has {shape[0]} x {shape[1]}; name one of this shape."
                )
        tokens = {file.budget: file.tokens for file in files}
        for budget in self.budgets:
            if [file.budget for file in files].count(budget) != 1:
                raise RequestError(
                    f"One budget file of '{method}' must be for a budget of {budget}, and the files are for "
                    f"{sorted(file.budget for file in files)}; name one for each budget with --budgets."
                )
        return StaticBudgets(fixed_tokens(tokens), {}, (), ())
