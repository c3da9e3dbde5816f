"""Utilities of a coalition by name."""

from cokv_bench.game.utilities.base import Case, PromptUtility
from cokv_bench.registries import UTILITIES


def register_utility(utility: PromptUtility) -> None:
    """Add a utility of one's own; its name must be new.

    Raises:
        RequestError: the name is taken.
    """
    UTILITIES.add(utility.name, utility.description, utility)


def get_utility(name: str) -> PromptUtility:
    """The utility of that name. Raises `RequestError` with the nearest names if there is none."""
    return UTILITIES.get(name)


__all__ = ["UTILITIES", "Case", "PromptUtility", "get_utility", "register_utility"]
