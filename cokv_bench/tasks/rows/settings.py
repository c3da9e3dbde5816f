"""What YAML files say of a table and of how its rows are asked and scored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cokv_bench.errors import RequestError, quoted, unknown
from cokv_bench.tasks.metrics import METRICS
from cokv_bench.tasks.rows.records import read_bytes
from cokv_bench.tasks.rows.rules import Rules
from cokv_bench.tasks.rows.table import Table
from cokv_bench.tasks.rows.task import fill

_RULES: dict[str, Any] = {
    "template": "{context}\n\n{input}",
    "metric": "qa_f1",
    "max_new_tokens": 64,
    "chat": True,
    "stop_at_newline": False,
    "first_line": False,
    "truncate": True,
}
_TABLE: dict[str, type] = {"config": str, "split": str, "where": dict, "turns": str, "columns": dict, "strip": bool}
#: Every key, with the type of its value.
TYPES: dict[str, type] = {"data": str, **_TABLE, **{key: type(value) for key, value in _RULES.items()}}


def read_settings(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file. Raises `RequestError` as `check_settings` does, or where it is no YAML."""
    try:
        settings = yaml.safe_load(read_bytes(path)) or {}
    except yaml.YAMLError as error:
        raise RequestError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    check_settings(settings, str(path))
    return dict(settings)


def check_settings(settings: Any, place: str) -> None:
    """Refuse unknown keys and values of the wrong type.

    Args:
        place: of the settings, for errors.

    Raises:
        RequestError: what is wrong.
    """
    if not isinstance(settings, dict):
        raise RequestError(f"{place} must hold keys and values: {', '.join(TYPES)}.")
    for key, value in settings.items():
        if key not in TYPES:
            raise unknown(f"key in {place}", str(key), TYPES)
        if type(value) is not TYPES[key]:
            raise RequestError(f"{place}: key '{key}' must be of type {TYPES[key].__name__}, not {value!r:.60}.")
    for name, column in settings.get("columns", {}).items():
        if not isinstance(name, str) or not name.isidentifier() or not isinstance(column, str | None):
            raise RequestError(
                f"{place}: 'columns' must give names of columns, or null, for roles and places of the template, not "
                f"{quoted(name)}: {quoted(column)}."
            )


def table_of(source: str, settings: Mapping[str, Any]) -> Table:
    """The table of a source; a limit of new tokens that is set counts in place of the rows' own."""
    said = {key: settings[key] for key in _TABLE if key in settings}
    if "max_new_tokens" in settings:
        said["columns"] = {**said.get("columns", {}), "max_new_tokens": None}
    return Table(source=source, **said)


def rules_of(settings: Mapping[str, Any], table: Table, place: str) -> Rules:
    """How the rows of a table are asked and scored; what is not set is as for any rows.

    Raises:
        RequestError: an unknown metric, no new tokens, or a template without a place to fill.
    """
    said = {key: settings.get(key, value) for key, value in _RULES.items()}
    if said["metric"] not in METRICS:
        raise unknown("metric", said["metric"], METRICS)
    if said["max_new_tokens"] < 1:
        raise RequestError(f"max_new_tokens of {place} must be at least 1, not {said['max_new_tokens']}.")
    fill(said["template"], "", "", dict.fromkeys(table.places, ""))  # Refuses a template without a place to fill.
    return Rules(**said)
