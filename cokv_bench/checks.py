"""Checks of documents that were read from a file: is each field that somebody uses of its type?

A field is described by a check, a function that returns None for a good value and else what was expected. Fields that
no reader uses may hold anything.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, NoReturn, TypeGuard

from cokv_bench.errors import RequestError, quoted

#: None where a value is good, else what was expected of it.
Check = Callable[[Any], str | None]
#: Beyond it a float no longer tells whole numbers apart.
_LARGEST = 2**53
# Half of a pair, which JSON can hold and UTF-8 cannot.
_HALF = re.compile("[\ud800-\udfff]")


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, of Python or numpy."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_count(value: object, least: int, what: str) -> None:
    """Raises `RequestError` unless a number of tokens is whole and at least `least`."""
    if not is_whole(value) or value < least:
        raise RequestError(f"{what} has a whole number of tokens, {least} or more, not {quoted(value)}.")


def strict_loads(text: str | bytes) -> Any:
    """`json.loads` that refuses NaN and Infinity.

    Raises:
        ValueError: the text is not UTF-8 or not JSON, or nested deeper than Python reads.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def text(value: Any) -> str | None:
    """A string that UTF-8 can hold."""
    whole = isinstance(value, str) and not _HALF.search(value)
    return None if whole else "a text"


def any_text(value: Any) -> str | None:
    """A string; what a model has written may hold half a character."""
    return None if isinstance(value, str) else "a text"


def whole(least: int) -> Check:
    """A whole number of at least `least`."""

    def check(value: Any) -> str | None:
        if type(value) is not int or value < least:
            return f"a whole number from {least}"
        return None if value < _LARGEST else f"a whole number from {least} to {_LARGEST - 1}"

    return check


def number(value: Any) -> str | None:
    """A finite number."""
    good = type(value) in (int, float) and abs(value) < _LARGEST and math.isfinite(value)
    return None if good else "a finite number"


def between_0_and_1(value: Any) -> str | None:
    """A score, whatever its metric; an answer to several questions has their mean."""
    return None if number(value) is None and 0 <= value <= 1 else "a number from 0 to 1"


def check_scores(scores: Iterable[Mapping[str, Any]], check: Check, whose: str, task: str, example: str) -> None:
    """Raises `RequestError` where a score is not what tables are made of; a plug-in may give anything.

    Args:
        scores: by column.
        whose: what measured them.
    """
    for column, value in (pair for each in scores for pair in each.items()):
        expected = check(value)
        if expected:
            raise RequestError(
                f"{whose} gives {quoted(value)} as '{column}' of '{task}' (example {example}), and it must be "
                f"{expected}; correct the code that measures it."
            )


def flag(value: Any) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else "true or false"


def one_of(*values: str) -> Check:
    """One of some texts."""
    return lambda value: None if isinstance(value, str) and value in values else f"one of {', '.join(values)}"


def or_null(check: Check) -> Check:
    """What `check` accepts, or null."""

    def checked(value: Any) -> str | None:
        expected = None if value is None else check(value)
        return expected and f"{expected} or null"

    return checked


def listed(check: Check, least: int = 0) -> Check:
    """A list of `least` values or more that `check` accepts."""

    def checked(value: Any) -> str | None:
        if not isinstance(value, list) or len(value) < least:
            return f"a list of at least {least}" if least else "a list"
        return next((f"{expected} at each place of the list" for expected in map(check, value) if expected), None)

    return checked


def an_object(value: Any) -> str | None:
    """A JSON object."""
    return None if isinstance(value, dict) else "an object"


def by_name(names: Sequence[str], check: Check) -> Check:
    """An object of exactly these names, each with a value that `check` accepts."""

    def checked(value: Any) -> str | None:
        if not isinstance(value, dict) or set(value) != set(names):
            return f"an object of {', '.join(names)}"
        return next((f"{expected} for each name" for expected in map(check, value.values()) if expected), None)

    return checked


def numbers(*shape: int | None) -> Check:
    """Lists in lists of finite numbers, of these lengths from the outside in; None: of any length."""
    told = " x ".join("any" if length is None else str(length) for length in shape)

    def fits(value: Any, lengths: tuple[int | None, ...]) -> bool:
        if not lengths:
            return number(value) is None
        if not isinstance(value, list) or lengths[0] not in (None, len(value)):
            return False
        return all(fits(each, lengths[1:]) for each in value)

    return lambda value: None if fits(value, shape) else f"finite numbers in lists of {told}"


def problem(content: Any, needed: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> str | None:
    """What is wrong with the fields of a JSON object, None where all are good.

    Args:
        needed: the fields that it must have, with their checks.
        optional: those that it may have.
    """
    if not isinstance(content, dict):
        return f"{quoted(content)} is not an object"
    for name in needed:
        if name not in content:
            return f"the field '{name}' is missing"
    for name, check in {**needed, **(optional or {})}.items():
        expected = check(content[name]) if name in content else None
        if expected:
            return f"the field '{name}' is {quoted(content[name])}; expected {expected}"
    return None
