"""A user's own rows as a task: `jsonl:PATH` in LongBench's schema, or any table with a YAML file about it.

PATH is a table as `read_records` knows it, on the hub as `hf:OWNER/REPO`, or a YAML file with the key `data` and those
of `cokv_bench.tasks.rows.settings`. A YAML file next to the rows, with the same stem, is read as well. Rows without
answers serve to profile heads by agreement.
"""

import os
from pathlib import Path
from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.files import at_home
from cokv_bench.hub import on_hub
from cokv_bench.tasks.base import PROFILE_SHARE
from cokv_bench.tasks.rows.settings import read_settings, rules_of, table_of
from cokv_bench.tasks.rows.task import RowTask

PREFIX = "jsonl:"
_YAML = (".yaml", ".yml")


class JsonlTask(RowTask):
    """The task of one table of rows; what is None here comes from the YAML file, then from the defaults.

    Args:
        path: rows or YAML file, as in the module's description, with or without "jsonl:" in front.
        template: prompt with the places {context} and {input}; by default context, blank line, input.
        metric: a name in `cokv_bench.tasks.metrics.METRICS`; by default "qa_f1" (token F1).
        max_new_tokens: the most tokens to generate; by default what a row says itself, or 64.
        chat: wrap the prompt in the model's chat template; by default true.
        stop_at_newline: end the answer at the first newline after at least one token; by default false.
        first_line: score the first line of a prediction only; by default false.
        seed: of the split into profile, test and report examples.
        profile_share: share of the documents (contexts) on whose rows heads are profiled.
        limit: the most examples of a split, the first in file order; None for all.
        questions: of each context; see `per_context`.

    Attributes:
        source: the rows: a path, or `hf:OWNER/REPO`.

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
        self.source, settings = _source_and_settings(named)
        settings |= {key: value for key, value in given.items() if value is not None}
        table = table_of(self.source, settings)
        super().__init__(
            PREFIX + named,
            rules_of(settings, table, named),
            table.rows,
            seed=seed,
            profile_share=profile_share,
            limit=limit,
            questions=questions,
        )


def _source_and_settings(named: str) -> tuple[str, dict[str, Any]]:
    """The rows that a path names, and the settings of the YAML file that goes with it ({} without one)."""
    if on_hub(named):
        return named, {}
    path = at_home(Path(named))
    if not path.name:
        raise RequestError(f"'{PREFIX}{named}' names no file of rows; write {PREFIX}PATH.")
    if path.suffix in _YAML:
        settings = read_settings(path)
        data = settings.pop("data", path.with_suffix(".jsonl").name)
        return data if on_hub(data) else str(at_home(path.parent / at_home(Path(data)))), settings
    beside = next((path.with_suffix(suffix) for suffix in _YAML if path.with_suffix(suffix).is_file()), None)
    settings = read_settings(beside) if beside else {}
    settings.pop("data", None)
    return str(path), settings
