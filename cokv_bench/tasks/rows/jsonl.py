"""A user's own rows as a task: `jsonl:PATH` in LongBench's schema, with an optional YAML file of rules.

PATH is a JSON Lines file, a parquet file, a folder written by `datasets.save_to_disk`, `hf:OWNER/NAME` on the hub, or
a YAML file with the keys data, template, metric, max_new_tokens, chat, stop_at_newline and first_line. A YAML file
next to the rows, with the same stem, is read as well. Rows without answers serve to profile heads by agreement. Prompts
that are too long are cut in the middle, as in LongBench.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from cokv_bench.errors import RequestError, unknown
from cokv_bench.files import at_home
from cokv_bench.tasks.base import PROFILE_SHARE
from cokv_bench.tasks.metrics import METRICS
from cokv_bench.tasks.rows.rows import Row, parse_jsonl, read_bytes, row_of
from cokv_bench.tasks.rows.rules import Rules
from cokv_bench.tasks.rows.task import RowTask, fill

PREFIX = "jsonl:"
#: Before the name of a data set on the hub.
HUB = "hf:"
_YAML = (".yaml", ".yml")
_DEFAULTS: dict[str, Any] = {
    "template": "{context}\n\n{input}",
    "metric": "qa_f1",
    "max_new_tokens": 64,
    "chat": True,
    "stop_at_newline": False,
    "first_line": False,
}
_TYPES: dict[str, type] = {"data": str, **{key: type(value) for key, value in _DEFAULTS.items()}}


class JsonlTask(RowTask):
    """The task of one file of rows; what is None here comes from the YAML file, then from the defaults.

    Args:
        path: rows or YAML file, as in the module's description, with or without "jsonl:" in front.
        template: prompt with the places {context} and {input}; by default context, blank line, input.
        metric: a name in `cokv_bench.tasks.metrics.METRICS`; by default "qa_f1" (token F1).
        max_new_tokens: the most tokens to generate; by default 64.
        chat: wrap the prompt in the model's chat template; by default true.
        stop_at_newline: end the answer at the first newline after at least one token; by default false.
        first_line: score the first line of a prediction only; by default false.
        seed: of the split into profile, test and report examples.
        profile_share: share of the documents (contexts) on whose rows heads are profiled.
        limit: the most examples of a split, the first in file order; None for all.
        questions: of each context; see `per_context`.

    Attributes:
        source: the rows: a path, or `hf:OWNER/NAME`.

    Raises:
        RequestError: a malformed YAML file, an unknown key or metric, or a template without a place to fill.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        template: str | None = None,
        metric: str | None = None,
        max_new_tokens: int | None = None,
        chat: bool | None = None,
        stop_at_newline: bool | None = None,
        first_line: bool | None = None,
        seed: int = 0,
        profile_share: float = PROFILE_SHARE,
        limit: int | None = None,
        questions: int = 1,
    ) -> None:
        given = {
            "template": template,
            "metric": metric,
            "max_new_tokens": max_new_tokens,
            "chat": chat,
            "stop_at_newline": stop_at_newline,
            "first_line": first_line,
        }
        named = os.fspath(path).removeprefix(PREFIX)
        source, settings = _source_and_settings(named)
        settings = {**_DEFAULTS, **settings, **{key: value for key, value in given.items() if value is not None}}
        if settings["metric"] not in METRICS:
            raise unknown("metric", settings["metric"], METRICS)
        if settings["max_new_tokens"] < 1:
            raise RequestError(f"max_new_tokens of {named} must be at least 1, not {settings['max_new_tokens']}.")
        fill(settings["template"], "", "")  # Refuses a template without a place to fill.
        self.source = source
        super().__init__(
            PREFIX + named,
            Rules(**settings),
            lambda: _load(source),
            seed=seed,
            profile_share=profile_share,
            limit=limit,
            questions=questions,
        )


def _source_and_settings(named: str) -> tuple[str, dict[str, Any]]:
    """The rows that a path names, and the settings of the YAML file that goes with it ({} without one)."""
    if named.startswith(HUB):
        return named, {}
    path = at_home(Path(named))
    if not path.name:
        raise RequestError(f"'{PREFIX}{named}' names no file of rows; write {PREFIX}PATH.")
    if path.suffix in _YAML:
        settings = _read_yaml(path)
        data = settings.pop("data", path.with_suffix(".jsonl").name)
        return data if data.startswith(HUB) else str(at_home(path.parent / at_home(Path(data)))), settings
    beside = next((path.with_suffix(suffix) for suffix in _YAML if path.with_suffix(suffix).is_file()), None)
    settings = _read_yaml(beside) if beside else {}
    settings.pop("data", None)
    return str(path), settings


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(read_bytes(path)) or {}
    except yaml.YAMLError as error:
        raise RequestError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(settings, dict):
        raise RequestError(f"{path} must hold keys and values: {', '.join(_TYPES)}.")
    for key, value in settings.items():
        if key not in _TYPES:
            raise unknown(f"key in {path}", str(key), _TYPES)
        if type(value) is not _TYPES[key]:
            raise RequestError(f"{path}: key '{key}' must be of type {_TYPES[key].__name__}, not {value!r:.60}.")
    return settings


def _load(source: str) -> list[Row]:
    path = Path(source)
    if source.startswith(HUB) or path.is_dir() or path.suffix == ".parquet":
        return [
            row_of(record, f"{source}, row {index}", index, labelled=False)
            for index, record in enumerate(_data_set(source))
        ]
    return parse_jsonl(read_bytes(path), source, labelled=False)


def _data_set(source: str) -> list[dict[str, Any]]:
    """Records of a parquet file, a saved folder or a hub id: the split "test", or the only one."""
    import datasets  # On first use: importing it takes over a second.

    try:
        if source.startswith(HUB):
            found = datasets.load_dataset(source.removeprefix(HUB))
        elif Path(source).is_dir():
            found = datasets.load_from_disk(source)
        else:
            found = datasets.load_dataset("parquet", data_files=source)
        if isinstance(found, datasets.DatasetDict):
            if "test" not in found and len(found) != 1:
                raise RequestError(f"{source} has no split 'test' but several others: {', '.join(found)}.")
            found = found["test"] if "test" in found else next(iter(found.values()))
        return list(found)  # Here, because texts are decoded no sooner.
    except RequestError:
        raise
    except Exception as error:  # Network, format, disk: many types, one mend.
        reason = " ".join(str(error).split()).rstrip(".")
        raise RequestError(f"Cannot read the data set {source} with the datasets library ({reason:.200}).") from error
