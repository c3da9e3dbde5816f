"""Options of a scorer or an allocator as texts, checked against its signature."""

import inspect
import math
import types
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, Literal, Union, get_args, get_origin

from cokv_bench.errors import RequestError, quoted

#: What a text can be read as, and what is said of it.
_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def parameters(factory: Callable[..., Any] | None) -> dict[str, inspect.Parameter]:
    """The parameters that a class or function takes by name; none where there is none, or a built-in does not say."""
    if factory is None:
        return {}
    try:
        signature = inspect.signature(factory, eval_str=True)
    except NameError:  # an annotation that only a type checker can resolve
        signature = inspect.signature(factory)
    except ValueError:
        return {}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: each for name, each in signature.parameters.items() if each.kind not in variable}


def written(factory: Callable[..., Any] | None) -> dict[str, Any]:
    """Those of the parameters that a text can give, with what it is read as."""
    found = {name: _kind(each) for name, each in parameters(factory).items()}
    return {name: kind for name, kind in found.items() if kind is not None}


def read(options: Mapping[str, str], kinds: Mapping[str, Any], whose: str) -> dict[str, Any]:
    """The values of options that are texts.

    Args:
        kinds: what each option that there is is read as: int, float, bool, str or a Literal.
        whose: what has the options, for a refusal.

    Raises:
        RequestError: an option that is not there, or a text that is no value of it.
    """
    values = {}
    for option, text in options.items():
        if option not in kinds:
            takes = f"it takes {', '.join(sorted(kinds))}" if kinds else "it takes none"
            raise RequestError(f"'{whose}' takes no option '{option}' in a name; {takes}.")
        value = _read(text, kinds[option])
        if value is None:
            raise _refused(option, whose, kinds[option], text)
        values[option] = value
    return values


def _refused(option: str, whose: str, kind: Any, value: object) -> RequestError:
    expected = _KINDS.get(kind) or " or ".join(map(str, get_args(kind)))
    return RequestError(f"The option '{option}' of '{whose}' takes {expected}, not {quoted(value)}.")


def make(factory: Callable[..., Any] | None, options: Mapping[str, Any], whose: str) -> Any:
    """What a class or function makes from those of the options that it takes.

    Raises:
        RequestError: an option without a default is not given, or a value that it cannot have.
    """
    if factory is None:
        return None
    taken = parameters(factory)
    lacking = [name for name, each in taken.items() if each.default is each.empty and name not in options]
    if lacking:
        how = f"write {whose}:{lacking[0]}=..." if lacking[0] in written(factory) else "it can be given in Python alone"
        raise RequestError(f"'{whose}' needs the option '{lacking[0]}'; {how}.")
    given = {name: options[name] for name in taken if name in options}
    for name, value in given.items():
        if not _fits(value, taken[name]):
            raise _refused(name, whose, _kind(taken[name]), value)
    return factory(**given)


def _fits(value: object, parameter: inspect.Parameter) -> bool:
    """Whether a value is of the kind that a parameter's annotation says, where it says one that a text could give."""
    kind = None if parameter.annotation is parameter.empty else _kind(parameter)
    if kind is None or (value is None and type(None) in get_args(parameter.annotation)):
        return True
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind in (int, float):
        # Numbers of numpy are numbers; true and false are none, and neither is what a file could not hold.
        right = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
        return right and math.isfinite(value)  # type: ignore[arg-type]
    return isinstance(value, kind)


def _kind(parameter: inspect.Parameter) -> Any:
    """What a text for a parameter is read as, None where no text will do."""
    kind = parameter.annotation
    if kind is parameter.empty:
        kind = str if parameter.default in (parameter.empty, None) else type(parameter.default)
    if get_origin(kind) in (Union, types.UnionType):
        some = [each for each in get_args(kind) if each is not type(None)]
        kind = some[0] if len(some) == 1 else None
    return kind if kind in _KINDS or get_origin(kind) is Literal else None


def _read(text: str, kind: Any) -> Any:
    """The value that a text stands for, None where it stands for none."""
    if get_origin(kind) is Literal:
        return next((value for value in get_args(kind) if str(value) == text), None)
    if kind is bool:
        return {"true": True, "false": False}.get(text)
    if kind is str:
        return text
    # What only Python takes for a number would be a second spelling of it.
    if not text.isascii() or "_" in text:
        return None
    try:
        value = kind(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
