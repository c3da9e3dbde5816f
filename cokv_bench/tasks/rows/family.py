"""What benchmarks of rows share, and a user's own rows as one of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cokv_bench.errors import RequestError
from cokv_bench.hub import on_hub
from cokv_bench.tasks.base import PROFILE_SHARE, REPORT_SHARE, Split
from cokv_bench.tasks.family import Family, Size, UncountedError
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.rows.jsonl import PREFIX, JsonlTask

if TYPE_CHECKING:
    from cokv_bench.models import Model


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("jsonl", "rows of the user's own", "OWN_ROWS")


class OwnRows(Family):
    """Tasks called "jsonl:PATH", each the rows of one file."""

    name = PREFIX.rstrip(":")
    holds_paths = True

    def lines(self) -> Mapping[str, str]:
        """One pattern."""
        line = "your own rows, in LongBench's schema or with a YAML file that names data, columns, template and metric"
        return {f"{PREFIX}PATH": line}

    def known(self) -> list[str]:
        """None: files are not listed."""
        return []

    def has(self, name: str) -> bool:
        """Whether it begins with "jsonl:"; the file is looked at when the task is made."""
        return name.startswith(PREFIX)

    def owns(self, task: str) -> bool:
        """The same."""
        return task.startswith(PREFIX)

    def make(self, name: str, model: "Model", options: TaskOptions) -> JsonlTask:
        """The task of one file. Raises `RequestError` as `JsonlTask` does."""
        return _own(name, options)

    def several(self, task: str) -> bool:
        """Rows of one context."""
        return True

    def size(self, task: str, options: TaskOptions, split: Split, rows: int | None) -> Size:
        """The rows of the file are read and counted where the user does not say how many they are."""
        try:
            own = _own(task, options)
            if rows is not None:
                uncounted_contexts(options)
                return Size(rows_of_split(rows, split, options.limit), own.rules.max_new_tokens)
            if on_hub(own.source):
                raise UncountedError("its rows are on the hub, and a dry run downloads nothing")
            examples = own.examples(split)
            return Size(len(examples), max((each.max_new_tokens for each in examples), default=1))
        except RequestError as error:
            raise UncountedError(str(error).rstrip(".")) from None


OWN_ROWS = OwnRows()


def _own(name: str, options: TaskOptions) -> JsonlTask:
    path = Path(name.removeprefix(PREFIX))
    return JsonlTask(
        path,
        template=options.template,
        metric=options.metric,
        limit=options.limit,
        seed=options.seed,
        questions=options.questions,
    )


def uncounted_contexts(options: TaskOptions) -> None:
    """Refuse to count contexts with several questions by the number of rows. Raises `UncountedError`."""
    if options.questions > 1:
        raise UncountedError(f"which contexts have {options.questions} questions is not known before rows are read")


def rows_of_split(rows: int, split: Split, limit: int | None) -> int:
    """Rows of a split out of those of all, where the splits have their shares of them; at most the limit."""
    mine, reported = round(rows * PROFILE_SHARE), round(rows * REPORT_SHARE)
    examples = {"profile": mine, "report": reported, "test": rows - mine - reported, "all": rows}[split]
    return examples if limit is None else min(examples, limit)
