"""Drafts that rankings look at: all equally long ones that an example's methods want are written as one batch."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt
    from cokv_bench.kvcache.reading import Draft
    from cokv_bench.kvcache.selection import Selection
    from cokv_bench.policies.policy import Policy


@dataclass(frozen=True)
class Wanted:
    """A draft that a ranking wants.

    Attributes:
        selection: what the draft sees of the prompt.
        tokens: the most that are drafted.
        question: ids that the draft follows, for ceilings alone.
    """

    selection: "Selection"
    tokens: int
    question: tuple[int, ...] = ()


def prepare(prompt: "Prompt", cells: "Iterable[tuple[Policy, int | None]]") -> None:
    """Write the drafts of all policies at their budgets; a prompt remembers them, so none is written again.

    It is never needed: what is missing when a prompt is scored is drafted then, on its own.
    """
    wanted: dict[Wanted, list[Prompt]] = {}
    for policy, budget in cells:
        if budget is None or prompt.tokens <= budget:
            continue
        wishes = getattr(policy.scorer_at(budget), "drafts", None)
        if wishes is not None:
            narrow = policy.narrowed(prompt)
            for each in wishes(narrow):
                if _key(each) not in narrow.memo:
                    wanted.setdefault(each, []).append(narrow)
    batches: dict[tuple[int, tuple[int, ...]], list[Wanted]] = {}
    for each in wanted:
        batches.setdefault((each.tokens, each.question), []).append(each)
    for alike in batches.values():
        for each, found in zip(alike, _write(prompt, alike), strict=True):
            for narrow in wanted[each]:
                narrow.memo[_key(each)] = found


def drafted(prompt: "Prompt", wanted: Wanted) -> "Draft":
    """A draft, as it was prepared or written now."""
    if _key(wanted) not in prompt.memo:
        (prompt.memo[_key(wanted)],) = _write(prompt, [wanted])
    found: Draft = prompt.memo[_key(wanted)]
    return found


def _write(prompt: "Prompt", alike: list[Wanted]) -> "list[Draft]":
    from cokv_bench.kvcache.reading import draft  # On first use: rankings are listed without transformers.

    model = prompt.reader("A ranking that drafts")
    return draft(model, prompt, [each.selection for each in alike], alike[0].tokens, alike[0].question)


def _key(wanted: Wanted) -> tuple[str, Wanted]:
    return "draft", wanted
