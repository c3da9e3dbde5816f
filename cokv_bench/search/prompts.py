"""Prompts of a search, prefilled once each, their tokens in the order of each of its rankings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FunctionType

import torch
from torch import Tensor

from cokv_bench.game.head_game import DEFAULT_SHARE
from cokv_bench.game.utilities import Case
from cokv_bench.kvcache import Prompt, prefill
from cokv_bench.kvcache.batching import free_memory
from cokv_bench.kvcache.prefill import for_length, signals
from cokv_bench.kvcache.ranked import by_rank, relative_order
from cokv_bench.kvcache.store import OnDisk, PromptStore
from cokv_bench.models import Model
from cokv_bench.policies.drafts import prepare
from cokv_bench.policies.policy import Policy
from cokv_bench.search.kept import KeptPrompts, Ranked
from cokv_bench.tasks import Example, Task
from cokv_bench.tasks.prompts import Encoded, Encoding, encode_parts

#: What a utility scores of a case: ids of an answer.
Answering = Callable[[Case], Sequence[int]]

#: Tokens of an answer that are scored at most, so that a few long summaries do not take most of a search's time.
ANSWER_TOKENS = 64


class RankedPrompts:
    """The prompts of some rows, in the order of the first of some rankings; orders of the others beside them.

    Args:
        answers: what each utility scores of a case, by its name.
        policies: what ranks tokens.
        budgets: at which tokens are ranked, where a ranking depends on the budget (one that drafts).
        window: last tokens that are kept in every head.
        memory_limit: bytes for prompts; default 60% of what is free. Prompts beyond it go to a file.
        spill_folder: where that file is made; default the system's temporary folder.
        kept: folder whose prompts are not prefilled again, and that those which it lacks are written to.

    Raises:
        RequestError: a folder that cannot be written, or a model whose prompts no file keeps.
    """

    def __init__(
        self,
        model: Model,
        rows: Sequence[tuple[Task, Example]],
        answers: Mapping[str, Answering],
        policies: Sequence[Policy],
        *,
        budgets: Sequence[int],
        window: int,
        encoding: Encoding,
        memory_limit: int | None,
        spill_folder: Path | None,
        kept: Path | None,
    ) -> None:
        self._model, self._rows, self._answers, self._policies = model, rows, list(answers.values()), policies
        self._window, self._encoding = window, encoding
        wanted = sorted(set(budgets))
        # Each order of a prompt's tokens: a ranking, at a budget where it depends on one.
        self._cells = {
            (place, budget): _order(policy, budget)
            for place, policy in enumerate(policies)
            for budget in (wanted if policy.needs_budget else [None])
        }
        # What a kept prompt depends on beside its text; its orders say how they came about.
        settings = {"answers": [_whose(*each) for each in answers.items()], "window": window}
        self._kept = None if kept is None else KeptPrompts(kept, model, settings)
        self._found: dict[int, tuple[Sequence[Tensor], Mapping[str, Tensor]]] = {}
        self._questions: dict[int, Tensor] = {}
        limit = memory_limit or int(DEFAULT_SHARE * free_memory(model.device))
        self._store = PromptStore(self._make, limit=limit, folder=spill_folder)

    def get(self, number: int) -> Prompt:
        """The prompt of a row."""
        return self._store.get(number)

    def text(self, number: int, utility: int) -> tuple[Tensor, Tensor]:
        """Ids of the question after a row's prompt and of its answer under a utility; the prompt was asked for."""
        return self._questions[number], self._found[number][0][utility]

    def order(self, number: int, ranking: int, budget: int) -> Tensor | None:
        """The order of a row's tokens under a ranking at a budget, see `relative_order`; None for the prompt's own."""
        cell = ranking, budget if self._policies[ranking].needs_budget else None
        return self._found[number][1].get(self._cells[cell])

    def _make(self, number: int) -> Prompt | OnDisk:
        """The prompt of a row in the order of one of the rankings; answers and orders of the others are remembered."""
        task, row = self._rows[number]
        encoded = encode_parts(self._model, row, self._encoding)
        self._questions[number] = torch.tensor(encoded.question, dtype=torch.long)
        if self._kept is None:
            ranked = self._prefill(task, row, encoded)
            self._found[number] = ranked.answers, ranked.orders
            return ranked.prompt
        text = {
            "task": task.name,
            "example": row.id,
            "answer": row.max_new_tokens,
            # An example of a table is its context and question: its answers may be corrected.
            "answers": row.answers,
            "stop_at_newline": row.stop_at_newline,
            **vars(encoded),
        }
        names = list(self._cells.values())
        found: tuple[Prompt | OnDisk, Ranked] | None = self._kept.find(text, names)
        if found is None:
            made = self._prefill(task, row, encoded)
            self._kept.write(text, made)
            # Another search may have written the prompt in another order meanwhile.
            found = self._kept.find(text, names) or (made.prompt, made)
        there, ranked = found
        self._found[number] = ranked.answers, ranked.orders
        return there

    def _prefill(self, task: Task, row: Example, encoded: Encoded) -> Ranked:
        asked = len(encoded.question)
        needs = frozenset[str]().union(*(policy.needs for policy in self._policies))
        sees = max(policy.sees(self._window) for policy in self._policies)
        prompt = prefill(self._model, encoded.prompt, window=sees, **signals(needs), question=encoded.question)
        short = replace(row, max_new_tokens=min(row.max_new_tokens, ANSWER_TOKENS))
        case = Case(self._model, task, short, prompt, question=tuple(encoded.question))
        answers = [torch.tensor(list(answer(case)), dtype=torch.long) for answer in self._answers]
        prompt = for_length(self._model, prompt, prompt.tokens + asked + max(map(len, answers)))
        policies = [(self._policies[place], budget) for place, budget in self._cells]
        prepare(prompt, [(policy, budget) for policy, budget in policies if budget is not None])
        ranks = [policy.ranks(prompt, budget) for policy, budget in policies]
        first, *others = self._cells.values()
        orders = {name: relative_order(mine, ranks[0]) for name, mine in zip(others, ranks[1:], strict=True)}
        return Ranked(by_rank(prompt.with_window(self._window), ranks[0]), first, answers, orders)


def _order(policy: Policy, budget: int | None) -> str:
    """What an order of tokens is called: all that decides it, since a later version may have other defaults."""
    given = {"observe": policy.observe, "sinks": policy.sinks or None, "at": budget}
    told = ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)
    return f"{policy.name}: {policy.scorer_at(budget)!r}{told and f', {told}'}"


def _whose(utility: str, answer: Callable[[Case], Sequence[int]]) -> str:
    """Whose answers a utility has: utilities that share a function of a module have the same ones."""
    if isinstance(answer, FunctionType) and answer.__qualname__.isidentifier():
        return f"{answer.__module__}.{answer.__qualname__}"
    # Methods, closures, lambdas and partial functions of the same name may give different answers.
    return utility
