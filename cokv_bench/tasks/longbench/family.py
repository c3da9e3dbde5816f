"""LongBench and LongBench-E as a benchmark."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cokv_bench.checks import Check, one_of
from cokv_bench.tasks.base import Split
from cokv_bench.tasks.downloads import Download
from cokv_bench.tasks.family import Family, Size
from cokv_bench.tasks.longbench.data import ARCHIVE, REPOSITORY
from cokv_bench.tasks.longbench.sizes import published_rows
from cokv_bench.tasks.longbench.specs import PREFIX, expand, groups, is_e, plain_names, spec_of, specs
from cokv_bench.tasks.longbench.task import LongBenchTask
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.rows.family import rows_of_split, uncounted_contexts
from cokv_bench.tasks.rows.rules import BUCKETS

if TYPE_CHECKING:
    from cokv_bench.models import Model


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("longbench", "LongBench v1 and LongBench-E", "LONGBENCH")


class LongBench(Family):
    """Tasks such as "longbench/hotpotqa"; those of LongBench-E end in "_e" and have a mean and buckets of their own."""

    name = PREFIX.rstrip("/")

    def lines(self) -> Mapping[str, str]:
        """The groups, then the 21 tasks; LongBench-E's are under "longbench/NAME"."""
        return {
            "longbench": "the 16 English and code tasks that the papers report",
            "longbench/all": "all 21 tasks of LongBench",
            "longbench-e": "the 13 tasks of LongBench-E, with even shares of lengths",
            "longbench/NAME": "one task, such as longbench/hotpotqa or longbench/hotpotqa_e",
            **{
                PREFIX + name: f"{spec.language}, {spec.metric}, up to {spec.max_new_tokens} new tokens"
                for name, spec in specs().items()
            },
        }

    def known(self) -> list[str]:
        """The groups, and all tasks of both."""
        return [*groups(), *(PREFIX + name for name in plain_names())]

    def expand(self, name: str, options: TaskOptions) -> list[str]:
        """The tasks of a group."""
        return expand(name)

    def make(self, name: str, model: "Model", options: TaskOptions) -> LongBenchTask:
        """One task. Raises `RequestError` as `LongBenchTask` does."""
        return LongBenchTask(
            name, data_dir=options.data_dir, seed=options.seed, limit=options.limit, questions=options.questions
        )

    def several(self, task: str) -> bool:
        """Rows of one context."""
        return True

    def size(self, task: str, options: TaskOptions, split: Split, rows: int | None) -> Size:
        """As many rows as the user says, or as the published files have."""
        uncounted_contexts(options)
        every = published_rows(task) if rows is None else rows
        examples = rows_of_split(every, split, options.limit)
        return Size(examples, spec_of(task).max_new_tokens, published=rows is None)

    def mean(self, task: str) -> str:
        """LongBench-E counts as a benchmark of its own, as papers report it."""
        return f"{self.name}-e" if is_e(task) else self.name

    def published_mean(self) -> list[str]:
        """The papers' 16 tasks."""
        return groups()[self.name]

    def downloads(self) -> Mapping[str, Download]:
        """The official archive, which holds both benchmarks."""
        archive = Download(f"hf:{REPOSITORY}/{ARCHIVE}", "the official archive: LongBench and LongBench-E, 110 MB")
        return {self.name: archive, f"{self.name}-e": archive}

    def length(self, task: str) -> str | None:
        """LongBench-E goes by its buckets of words; for the other tasks nobody asked for the lengths of rows."""
        return "bucket" if is_e(task) else None

    def columns(self, task: str) -> Mapping[str, Check]:
        """The bucket, of LongBench-E."""
        return {"bucket": one_of(*BUCKETS)} if is_e(task) else {}


LONGBENCH = LongBench()
