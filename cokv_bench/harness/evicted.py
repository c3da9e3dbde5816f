"""A model that answers and scores from what an eviction method keeps of each context."""

from collections.abc import Sequence
from dataclasses import dataclass

from cokv_bench.budget import Budget
from cokv_bench.kvcache import Prompt, Selection, decode, prefill
from cokv_bench.kvcache.prefill import signals
from cokv_bench.kvcache.scoring import Score, score
from cokv_bench.models import Model
from cokv_bench.policies import Policy

# Of methods that have no window of their own, as elsewhere.
_WINDOW = 8


@dataclass(frozen=True)
class EvictedModel:
    """A model with a method at a budget. Contexts are prefilled, evicted and answered one at a time.

    Attributes:
        budget: tokens per KV head on average, window included, or a share of each context; None for `full`.
        question_tokens: how many of a context's last tokens are read after eviction.
    """

    model: Model
    policy: Policy
    budget: Budget | None
    question_tokens: int = 0

    def check(self) -> None:
        """Refuse a budget in tokens that is not above what every head keeps. Raises `RequestError`."""
        if isinstance(self.budget, int):
            self.policy.check_budget(self.budget, self.policy.window or _WINDOW)

    def answer(self, context: Sequence[int], max_new_tokens: int, until: Sequence[str] = ()) -> list[int]:
        """Ids of a greedy answer, with what ended it.

        Args:
            context: ids.
            until: texts that end it, see `decode`.

        Raises:
            RequestError: see `prefill`, `Policy.select` and `decode`.
        """
        prompt, selection, question = self._evict(context, self.question_tokens, 0)
        (answer,) = decode(
            self.model, prompt, [selection], max_new_tokens=max_new_tokens, question=question, until=until
        )
        return answer.token_ids

    def score(self, context: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[Score]:
        """How likely each of several texts is after a context, which is prefilled and evicted once.

        At least the last token of the context is read after eviction, where it has more than one. The log-probability
        of each token then depends on what is kept; otherwise the prefill alone would give that of the first, and so all
        of a choice of one token.

        Raises:
            RequestError: see `prefill`, `Policy.select` and `cokv_bench.kvcache.scoring.score`.
        """
        longest = max(map(len, continuations))
        prompt, selection, question = self._evict(context, max(1, self.question_tokens), longest - 1)
        return score(self.model, prompt, selection, continuations, question=question)

    def _evict(
        self, context: Sequence[int], question_tokens: int, follow: int
    ) -> tuple[Prompt, Selection, Sequence[int]]:
        """The prompt, what is kept of it, and the question that is read next; `follow` tokens come after that."""
        # The prompt has at least one token.
        cut = max(1, len(context) - question_tokens)
        question = context[cut:]
        policy = self.policy.within(_WINDOW)
        prompt = prefill(
            self.model,
            context[:cut],
            window=policy.sees(_WINDOW),
            **signals(policy.needs),
            room=len(question) + follow,
            question=question,
        )
        return prompt, policy.select(prompt, self.budget), question
