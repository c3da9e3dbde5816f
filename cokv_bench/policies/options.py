"""Options of a scorer or an allocator as texts, checked against its signature."""

import inspect
import math
import types
from collections.abc import Callable, Mapping
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
            expected = _KINDS.get(kinds[option]) or " or ".join(map(str, get_args(kinds[option])))
            raise RequestError(f"The option '{option}' of '{whose}' takes {expected}, not {quoted(text)}.")
        values[option] = value
    return values


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
    return factory(**{name: options[name] for name in taken if name in options})


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
