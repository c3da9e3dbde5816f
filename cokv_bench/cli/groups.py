"""Requests as options: a command takes dataclasses, and the command line and files of settings fill them."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer
import yaml

from cokv_bench.budget import Budget
from cokv_bench.checks import number
from cokv_bench.errors import RequestError, brief, quoted, unknown
from cokv_bench.files import at_home
from cokv_bench.lists import join
from cokv_bench.option import Option, budgets, integers, names

T = TypeVar("T")

_CONFIG = "config"
#: The key of run.json that keeps what was asked for.
REQUEST = "request"
#: How lists with commas are read, by the type of their entries; others are names.
_LISTS: dict[Any, Callable[[str, str], list[Any]]] = {int: integers, Budget: budgets}


class Asked(dict[str, Any]):
    """What a command was asked for, by the names of its options: what `--config` reads. A parameter of this type."""


class Only:
    """The fields of a dataclass that a command has options for: `Annotated[Grid, Only("methods", "budgets")]`.

    Attributes:
        help: by field, where the command takes less than others do, or has another default.
    """

    def __init__(self, *fields: str, help: Mapping[str, str] | None = None) -> None:
        self.fields, self.help = fields, help or {}


class _Group:
    """A dataclass among the parameters of a command, with the defaults that it has there."""

    def __init__(self, kind: Any, only: Only | None, default: Any) -> None:
        self.default = kind() if default is inspect.Parameter.empty else default
        self.options: dict[str, tuple[Any, Option]] = {}
        for name, hint in get_type_hints(kind, include_extras=True).items():
            told = _of_kind(Option, hint)
            if told is not None and (only is None or name in only.fields):
                said = told.help if only is None else only.help.get(name, told.help)
                self.options[name] = get_args(hint)[0], dataclasses.replace(told, help=said)

    def parameters(self) -> list[inspect.Parameter]:
        return [self._parameter(name, *each) for name, each in self.options.items()]

    def _parameter(self, name: str, kind: Any, option: Option) -> inspect.Parameter:
        default = getattr(self.default, name)
        written, shown = _written(kind, option, default)
        called = (option.name or name, *([] if option.earlier is None else [option.earlier]))
        told = typer.Option(
            *(f"--{each.replace('_', '-')}" for each in called),
            help=option.help,
            min=option.least,
            max=option.most,
            rich_help_panel=option.panel,
        )
        keyword = inspect.Parameter.KEYWORD_ONLY
        return inspect.Parameter(name, keyword, default=shown, annotation=Annotated[written, told])

    def gather(self, values: dict[str, Any]) -> Any:
        """The dataclass, from the values of its options, which are taken out of `values`."""
        read = {name: _read(values.pop(name), name, *each) for name, each in self.options.items()}
        return dataclasses.replace(self.default, **read)


def _of_kind(wanted: type[T], hint: Any) -> T | None:
    """The metadata of one kind in an annotation; None where it has none."""
    return next((each for each in getattr(hint, "__metadata__", ()) if isinstance(each, wanted)), None)


def _plain_type(hint: Any) -> Any:
    """The type of an annotation, without its metadata."""
    return get_args(hint)[0] if hasattr(hint, "__metadata__") else hint


def _of(kind: Any) -> Any:
    """`int` of `tuple[int, ...]`; None of other types."""
    return get_args(kind)[0] if get_origin(kind) is tuple else None


def _written(kind: Any, option: Option, default: Any) -> tuple[Any, Any]:
    """The type of what is written, and the default as it is written."""
    if option.read is not None:
        return option.written | None, default
    if _of(kind) is Path:
        return list[Path] | None, list(default) or None
    if _of(kind) is not None:
        return (str, join(default)) if default else (str | None, None)
    return kind, default


def _read(value: Any, name: str, kind: Any, option: Option) -> Any:
    """A field's value, from what was written."""
    if option.read is not None:
        return None if value is None else option.read(value)
    if _of(kind) is Path:
        return tuple(value or ())
    if _of(kind) is not None:
        what = (option.name or name).removesuffix("s")
        return () if value is None else tuple(_LISTS.get(_of(kind), names)(value, what))
    return value


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters may be dataclasses with `Option`s, each spread into the options of its fields.

    A parameter's default is an instance that has the defaults of the options; without one they are the dataclass's.
    The command gains `--config`, see `settings_of`. The attribute `gather` makes the function's arguments from the
    values of the options.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, _Group] = {}
    parameters: list[inspect.Parameter] = []
    asked = None
    for name, parameter in inspect.signature(function).parameters.items():
        if hints[name] is Asked:
            asked = name
        elif dataclasses.is_dataclass(kind := _plain_type(hints[name])):
            groups[name] = _Group(kind, _of_kind(Only, hints[name]), parameter.default)
            parameters += groups[name].parameters()
        else:
            keyword = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(annotation=hints[name], kind=keyword))

    defaults = {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}

    def gather(options: Mapping[str, Any]) -> dict[str, Any]:
        left = defaults | {name: value for name, value in options.items() if name != _CONFIG}
        _check_numbers(left, groups)
        given = {} if asked is None else {asked: Asked(_plain(left, groups))}
        return {**{name: group.gather(left) for name, group in groups.items()}, **left, **given}

    @functools.wraps(function)
    def command(**options: Any) -> None:
        function(**gather(options))

    config = inspect.Parameter(
        _CONFIG,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            Path | None,
            typer.Option(
                is_eager=True,
                callback=_take_settings,
                help="Read options from a YAML file or a run's run.json; the command line overrides it.",
            ),
        ],
    )
    command.__signature__ = inspect.Signature([*parameters, config])  # type: ignore[attr-defined]
    command.__annotations__ = {}
    command.gather = gather  # type: ignore[attr-defined]
    return command


def _called(groups: Mapping[str, _Group]) -> dict[str, str]:
    """The names of the groups' options, by those of the fields."""
    return {name: option.name or name for group in groups.values() for name, (_, option) in group.options.items()}


def _check_numbers(options: Mapping[str, Any], groups: Mapping[str, _Group]) -> None:
    """Refuse numbers that no file of ours can hold, before anything is written. Raises `RequestError`."""
    for name, value in options.items():
        if type(value) in (int, float) and number(value) is not None:
            option = _called(groups).get(name, name).replace("_", "-")
            raise RequestError(f"--{option} is {quoted(value)}; it must be a finite number below 2**53.")


def _plain(options: Mapping[str, Any], groups: Mapping[str, _Group]) -> dict[str, Any]:
    """What was asked for by the names of the options, as JSON; without what has no value or is false."""
    called = _called(groups)

    def text(value: Any) -> Any:
        return (
            [text(each) for each in value]
            if isinstance(value, list)
            else str(value)
            if isinstance(value, Path)
            else value
        )

    return {
        called[name].replace("_", "-"): text(value)
        for name, value in options.items()
        if name in called and value is not None and value is not False and value != []
    }


def _take_settings(context: typer.Context, path: Path | None) -> Path | None:
    """Make what a file of settings says the defaults of a command's options."""
    if path is not None:
        path = at_home(path)
        context.default_map = settings_of(context, read_settings(path), str(path))
    return path


def read_settings(path: Path) -> dict[str, Any]:
    """The options that a file names: YAML with a key per option, or the `request` of a run's run.json.

    Raises:
        RequestError: the file cannot be read, is no YAML, or has no keys.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise RequestError(f"The settings {path} cannot be read ({error.strerror}).") from None
    # A date that no calendar has is a ValueError, and what is nested too deeply a RecursionError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RequestError(f"The settings {path} are not valid YAML or JSON: {brief(error)}.") from None
    if isinstance(content, dict) and "configuration" in content:
        if REQUEST not in content:
            raise RequestError(
                f"{path} is of an earlier version, which did not keep what was asked for; write the options into a "
                "YAML file."
            )
        content = content[REQUEST]
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise RequestError(
            f"The settings {path} must be keys and values, such as 'budget: 64', named as the options are."
        )
    return content


def settings_of(context: Any, settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Options by their names, with dashes or underscores, as the `default_map` of a command's context.

    Args:
        context: Typer's, of the command.
        where: the file, for errors.

    Raises:
        RequestError: an option that the command does not have, or a value that it does not take.
    """
    known = {opt.lstrip("-"): each for each in context.command.params for opt in each.opts if each.name != _CONFIG}
    found = {}
    for key, value in settings.items():
        name = key.replace("_", "-")
        if name not in known:
            raise unknown(f"option in {where}", key, known)
        if str(known[name].name) in found:
            raise RequestError(f"The option '{name}' is given twice in {where}; leave one out.")
        if value is not None:
            found[str(known[name].name)] = _default(context, known[name], value, f"The option '{key}' in {where}")
    return found


def _default(context: Any, option: Any, value: Any, what: str) -> Any:
    """A value of a file as a default of an option (Typer's, whose base class depends on its version)."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise RequestError(f"{what} is {quoted(value)}; expected true or false.")
        return value
    values = value if isinstance(value, list) else [value]
    if any(isinstance(each, bool) or not isinstance(each, str | int | float) for each in values):
        raise RequestError(f"{what} is {quoted(value)}; expected a text, a number or a list of them.")
    written = [str(each) for each in values] if option.multiple else join(values) if value is values else str(value)
    try:
        option.process_value(context, written)
    except typer.BadParameter as error:
        raise RequestError(f"{what} is {quoted(value)}: {brief(error)}.") from None
    return written
