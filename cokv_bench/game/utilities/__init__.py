"""Utilities of a coalition by name."""

from cokv_bench.errors import RequestError, unknown
from cokv_bench.game.utilities.agreement import AGREEMENT
from cokv_bench.game.utilities.base import Case, PromptUtility
from cokv_bench.game.utilities.loglik import LOGLIK
from cokv_bench.game.utilities.metric import METRIC

UTILITIES: dict[str, PromptUtility] = {utility.name: utility for utility in (LOGLIK, METRIC, AGREEMENT)}


def register_utility(utility: PromptUtility) -> None:
    """Add a utility of one's own; its name must be new.

    Raises:
        RequestError: the name is taken.
    """
    if utility.name in UTILITIES:
        raise RequestError(f"There is a utility '{utility.name}' already; choose another name.")
    UTILITIES[utility.name] = utility


def get_utility(name: str) -> PromptUtility:
    """The utility of that name. Raises `RequestError` with the nearest names if there is none."""
    if name not in UTILITIES:
        raise unknown("utility", name, UTILITIES)
    return UTILITIES[name]


__all__ = ["UTILITIES", "Case", "PromptUtility", "get_utility", "register_utility"]
