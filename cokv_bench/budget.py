"""A budget: how much of a prompt is kept, in tokens per KV head on average or as a share of the prompt."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import total_ordering
from typing import Literal, overload

from cokv_bench.checks import is_whole
from cokv_bench.errors import RequestError, quoted

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%")


@total_ordering
@dataclass(frozen=True)
class PromptShare:
    """A share of the prompt, such as 25%: of each prompt another number of tokens per KV head.

    Shares sort by their size, and after all numbers of tokens.

    Attributes:
        percent: above 0, at most 100.

    Raises:
        RequestError: any other number.
    """

    percent: Decimal

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100:
            raise RequestError(f"A budget as a share of the prompt is above 0% and at most 100%, not {self}.")

    @classmethod
    def parse(cls, text: str) -> "PromptShare":
        """From "25%" or "12.5 %".

        Raises:
            RequestError: the text is anything else, or not above 0% and at most 100%.
        """
        found = _SHARE.fullmatch(text.strip())
        if found is None:
            raise RequestError(
                f"{quoted(text)} is not a budget; give a whole number of tokens per head, or a share of the prompt "
                "such as 25% or 12.5%."
            )
        return cls(Decimal(found[1]))

    def of(self, tokens: int) -> int:
        """Tokens per KV head for a prompt of so many tokens, to the nearest whole number, of two the even one."""
        return round(self.percent * tokens / 100)

    def __lt__(self, other: object) -> bool:
        return self.percent < other.percent if isinstance(other, PromptShare) else False

    def __str__(self) -> str:
        return f"{self.percent.normalize():f}%"


#: Tokens per KV head on average, window included, or a share of the prompt.
Budget = int | PromptShare


@overload
def tokens_of(budget: Budget | str, tokens: int) -> int: ...
@overload
def tokens_of(budget: None, tokens: int) -> None: ...
def tokens_of(budget: Budget | str | None, tokens: int) -> int | None:
    """A budget in tokens per KV head for a prompt of so many tokens; what is no share stays as it is.

    Args:
        budget: a share may be written as a text, such as "25%".

    Raises:
        RequestError: a text that is no share.
    """
    found = read(budget)
    return found.of(tokens) if isinstance(found, PromptShare) else found


def in_tokens(budgets: Iterable[Budget]) -> list[int]:
    """Those of some budgets that are numbers of tokens."""
    return [budget for budget in budgets if not isinstance(budget, PromptShare)]


def only_tokens(budgets: Iterable[Budget], command: str) -> list[int]:
    """Some budgets, for a command that takes no shares. Raises `RequestError` where one is a share."""
    budgets = list(budgets)
    found = in_tokens(budgets)
    for budget in budgets:
        if isinstance(budget, PromptShare):
            raise RequestError(f"`cokv-bench {command}` takes budgets in tokens per head, not {budget} of the prompt.")
    return found


def written(budget: Budget | None) -> int | str | None:
    """A budget as JSON has it: shares as texts."""
    return str(budget) if isinstance(budget, PromptShare) else budget


def read(budget: Budget | str | None) -> Budget | None:
    """The same backwards. Raises `RequestError` for a text that is no share."""
    return PromptShare.parse(budget) if isinstance(budget, str) else budget


def column_type(budgets: Iterable[object]) -> Literal["Int64", "object"]:
    """The type of a table's column of budgets: whole numbers, or objects where shares are among them."""
    return "object" if any(isinstance(budget, PromptShare) for budget in budgets) else "Int64"


def check_above(budget: int, window: int) -> None:
    """Raises `RequestError` unless both are whole numbers of tokens, the window from 1, and the budget above it."""
    for name, value in (("window", window), ("budget", budget)):
        if not is_whole(value):
            raise RequestError(f"A {name} is a whole number of tokens, not {quoted(value)}.")
    if window < 1:
        raise RequestError(f"The window is {window} tokens; every head keeps at least one.")
    if budget <= window:
        raise RequestError(
            f"A budget of {budget} tokens per head is not above the window of {window}; raise the budget."
        )
