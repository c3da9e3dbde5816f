"""Utilities of a coalition by name."""

from cokv_bench.errors import unknown
from cokv_bench.game.utilities.base import PromptUtility
from cokv_bench.game.utilities.loglik import LOGLIK
from cokv_bench.game.utilities.metric import METRIC

UTILITIES: dict[str, PromptUtility] = {utility.name: utility for utility in (LOGLIK, METRIC)}


def get_utility(name: str) -> PromptUtility:
    """The utility of that name. Raises `RequestError` with the nearest names if there is none."""
    if name not in UTILITIES:
        raise unknown("utility", name, UTILITIES)
    return UTILITIES[name]


__all__ = ["UTILITIES", "PromptUtility", "get_utility"]
