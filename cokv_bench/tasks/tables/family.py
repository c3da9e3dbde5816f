"""A published table as a benchmark."""

import functools
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml

from cokv_bench.errors import RequestError
from cokv_bench.hub import HubFile, parse
from cokv_bench.tasks.base import PROFILE_SHARE, Split
from cokv_bench.tasks.downloads import Download, data_folder
from cokv_bench.tasks.family import Family, Size, UncountedError
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.rows.family import rows_of_split, uncounted_contexts
from cokv_bench.tasks.rows.records import CARD
from cokv_bench.tasks.rows.settings import rules_of, table_of
from cokv_bench.tasks.rows.task import RowTask

if TYPE_CHECKING:
    from cokv_bench.models import Model


def __getattr__(name: str) -> "PublishedTable":
    """The benchmark of a YAML file of this folder, for the registry of benchmarks."""
    if resources.files(__package__).joinpath(f"{name}.yaml").is_file():
        return PublishedTable(name)
    raise AttributeError(name)


class PublishedTable(Family):
    """Tasks such as "infinitebench/passkey"; where configurations are lengths, such as "ruler-hf/4096/vt".

    The YAML file has these keys: `about`, a line; `source`, the table on the hub; `shared`, the settings of all tasks,
    as in a `jsonl:` YAML file; `tasks`, by name what else each has; `rows`, how many each has, or one number for all.
    With `lengths` there is every task once for each, which is the configuration's name, and `select` is the column that
    has the task's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @functools.cached_property
    def described(self) -> Mapping[str, Any]:
        """What the YAML file says."""
        text = resources.files(__package__).joinpath(f"{self.name}.yaml").read_text(encoding="utf-8")
        found: dict[str, Any] = yaml.safe_load(text)
        return found

    @functools.cached_property
    def settings(self) -> Mapping[str, dict[str, Any]]:
        """The settings of each task by its full name."""
        shared, lengths = self.described.get("shared", {}), self.described.get("lengths")
        found = {}
        for task, own in self.described["tasks"].items():
            if lengths is None:
                found[f"{self.name}/{task}"] = {**shared, **own}
        for length in lengths or ():
            for task, own in self.described["tasks"].items():
                chosen = {"config": str(length), "where": {self.described["select"]: task}}
                found[f"{self.name}/{length}/{task}"] = {**shared, **own, **chosen}
        return found

    def lines(self) -> Mapping[str, str]:
        """The benchmark, its lengths, and a pattern."""
        lengths = {f"{self.name}/{each}": f"the same, {each} tokens" for each in self.described.get("lengths", ())}
        pattern = f"{self.name}/{'LENGTH/' * bool(lengths)}NAME"
        tasks = ", ".join(self.described["tasks"])
        return {self.name: self.described["about"], **lengths, pattern: f"one task: {tasks}"}

    def known(self) -> list[str]:
        """The benchmark, its lengths, and all tasks."""
        return [self.name, *(f"{self.name}/{each}" for each in self.described.get("lengths", ())), *self.settings]

    def has(self, name: str) -> bool:
        """Whether it is the benchmark, a length or a task; no file is read for names of other benchmarks."""
        return self.owns(name) and name in self.known()

    def expand(self, name: str, options: TaskOptions) -> list[str]:
        """The tasks of the benchmark or of a length."""
        return [task for task in self.settings if task == name or task.startswith(f"{name}/")]

    def make(self, name: str, model: "Model", options: TaskOptions) -> RowTask:
        """One task. Raises `RequestError` where the named folder has no data of it."""
        settings = self.settings[name]
        table = table_of(self._source(options), settings)
        rules = rules_of(settings, table, name)
        return RowTask(
            name,
            rules,
            table.rows,
            seed=options.seed,
            profile_share=PROFILE_SHARE,
            limit=options.limit,
            questions=options.questions,
        )

    def several(self, task: str) -> bool:
        """Rows of one context."""
        return True

    def size(self, task: str, options: TaskOptions, split: Split, rows: int | None) -> Size:
        """As many rows as the user says, or as are published, which not all are."""
        uncounted_contexts(options)
        published = self.described.get("rows")
        if isinstance(published, dict):
            published = published[task.rpartition("/")[2]]
        every = published if rows is None else rows
        if every is None:
            raise UncountedError("its number of rows is not known, and a dry run downloads nothing")
        examples = rows_of_split(every, split, options.limit)
        return Size(examples, self.settings[task]["max_new_tokens"], published=rows is None)

    def mean(self, task: str) -> str:
        """Each length has a mean of its own, as papers report it."""
        return task.rpartition("/")[0]

    def downloads(self) -> Mapping[str, Download]:
        """The configurations that the tasks read."""
        configs = dict.fromkeys(each["config"] for each in self.settings.values() if "config" in each)
        return {self.name: Download(self.described["source"], self.described["about"], tuple(configs))}

    def _source(self, options: TaskOptions) -> str:
        """A folder that the user names, or the hub."""
        source: str = self.described["source"]
        folder = data_folder(self.name, options.data_dir)
        if folder is None:
            return source
        named = parse(source, "dataset")
        needed = folder / (named.file if isinstance(named, HubFile) else CARD)
        if needed.is_file():
            return str(needed if isinstance(named, HubFile) else folder)
        if options.data_dir is None:
            # The variable may name the data of other benchmarks alone.
            return source
        raise RequestError(
            f"There is no {needed.name} of '{self.name}' in {folder}; fetch it with `cokv-bench data fetch {self.name} "
            f"--out {folder / self.name}`, or leave out --data-dir."
        )
