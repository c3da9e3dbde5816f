"""How much context a prompt length leaves room for."""

from bisect import bisect_right
from collections.abc import Callable


def most_units(length: int, tokens: Callable[[int], int], units: range | None = None) -> int:
    """The largest number of context units found whose prompt has at most `length` tokens.

    The number returned was measured itself, so its prompt never exceeds the length even where a unit more makes
    a token less.

    Args:
        length: the most tokens.
        tokens: tokens of the prompt with so many units; where there is no end of units, each has at least one.
        units: numbers to choose from; None: from 0 on, without end.

    Returns:
        one of the numbers, or the one below the first where none fits.
    """
    if units is None:
        # Doubling first: a unit may have many tokens, and `length` of them would be a far longer prompt to encode.
        upper = 1
        while upper < length and tokens(upper) <= length:
            upper *= 2
        units = range(upper + 1)
    return units.start + bisect_right(units, length, key=tokens) - 1
