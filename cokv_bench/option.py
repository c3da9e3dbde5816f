"""How fields of a request are written on the command line and in files, and how such texts are read."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cokv_bench.budget import Budget, PromptShare
from cokv_bench.errors import RequestError, quoted
from cokv_bench.lists import split

# More of anything fits no model and no memory.
_LARGEST = 2**31


@dataclass(frozen=True)
class Option:
    """What the command line says of a field of a dataclass: `Annotated[type, Option("...")]`.

    A field of the type `tuple[Path, ...]` is an option that may be repeated, one of `tuple[int, ...]`,
    `tuple[Budget, ...]` or `tuple[str, ...]` a list with commas.

    Attributes:
        help: what it does, and its default where that is not a value.
        panel: heading that it stands under in the help.
        least, most: the smallest and the largest value.
        name: where it is not the field's, as in "--method" of `methods`.
        earlier: what the option was called in earlier releases; it is still read.
        read: from what is written (of the type `written`) to the field's value.
        written: type of what is written, where `read` is given.
    """

    help: str
    panel: str | None = None
    least: int | None = None
    most: int | None = None
    name: str | None = None
    earlier: str | None = None
    read: Callable[[Any], Any] | None = None
    written: type = str


def names(text: str, what: str) -> list[str]:
    """The entries of a comma-separated list, in order, without repeats; one in double quotes may hold commas.

    Raises:
        RequestError: there are none.
    """
    found = list(dict.fromkeys(split(text)))
    if not found:
        raise RequestError(f"No {what} given; name one or several, separated by commas.")
    return found


def integers(text: str, what: str) -> list[int]:
    """A comma-separated list of whole numbers above 0. Raises `RequestError` otherwise."""
    try:
        numbers = [int(part) for part in names(text, what)]
    except ValueError:
        raise RequestError(f"{quoted(text)} is not a list of whole numbers for {what}, such as 64,128.") from None
    for number in numbers:
        if not 0 < number < _LARGEST:
            raise RequestError(
                f"{quoted(number)} is not a valid {what}; it must be a whole number above 0, and below 2**31."
            )
    return numbers


def budgets(text: str, what: str) -> list[Budget]:
    """A comma-separated list of budgets, each once: whole numbers of tokens above 0, and shares such as 25%.

    Raises:
        RequestError: an entry is neither.
    """
    found = (PromptShare.parse(each) if each.endswith("%") else integers(each, what)[0] for each in names(text, what))
    return list(dict.fromkeys(found))


def seconds(text: str) -> float:
    """A time such as 90s, 15m or 2h, or a plain number of seconds. Raises `RequestError` otherwise."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not found:
        raise RequestError(f"'{text}' is not a time such as 90s, 15m or 2h.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def gibibytes(number: float) -> int:
    """Bytes. Raises `RequestError` unless the number is above 0."""
    if not 0 < number < math.inf:
        raise RequestError(f"A memory limit of {number} GiB is not above 0.")
    return int(number * 2**30)
