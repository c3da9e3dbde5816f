"""How much context a prompt length leaves room for."""

from bisect import bisect_right
from collections.abc import Callable


def most_units(length: int, tokens: Callable[[int], int]) -> int:
    """The largest number of context units found whose prompt has at most `length` tokens; -1 where none has.

    The number returned was measured itself, so its prompt never exceeds the length even where a unit more makes
    a token less.

    Args:
        length: the most tokens.
        tokens: tokens of the prompt with so many units; every unit has at least one.
    """
    # Doubling first: a unit may have many tokens, and `length` of them would be a far longer prompt to encode.
    upper = 1
    while upper < length and tokens(upper) <= length:
        upper *= 2
    return bisect_right(range(upper + 1), length, key=tokens) - 1
