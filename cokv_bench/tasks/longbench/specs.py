"""The benchmark's tasks as data, their names and their groups."""

import functools
from dataclasses import dataclass
from importlib import resources

import yaml

from cokv_bench.errors import unknown
from cokv_bench.tasks.rows.rules import Rules

PREFIX = "longbench/"
_E = "_e"


@dataclass(frozen=True, kw_only=True)
class TaskSpec(Rules):
    """Rules of one LongBench task, its language (en, zh, code) and the groups it belongs to."""

    language: str
    longbench_e: bool
    papers: bool


@functools.cache
def specs() -> dict[str, TaskSpec]:
    """All 21 tasks by plain name ("hotpotqa"), the papers' 16 first."""
    text = resources.files(__package__).joinpath("tasks.yaml").read_text(encoding="utf-8")
    return {
        name: TaskSpec(**{**entry, "extra_metrics": tuple(entry.get("extra_metrics", ()))})
        for name, entry in yaml.safe_load(text).items()
    }


def plain_names() -> list[str]:
    """The 21 task names, then the 13 of LongBench-E, which end in "_e"."""
    return [*specs(), *(name + _E for name, spec in specs().items() if spec.longbench_e)]


def is_e(name: str) -> bool:
    """Whether a task's name, with or without "longbench/" in front, is one of LongBench-E."""
    return name.endswith(_E)


def spec_of(name: str) -> TaskSpec:
    """The spec of "hotpotqa" or "hotpotqa_e", with or without "longbench/" in front.

    Raises:
        RequestError: there is no such task (with the nearest names).
    """
    plain = name.removeprefix(PREFIX)
    if plain not in plain_names():
        raise unknown("LongBench task", plain, plain_names())
    return specs()[plain.removesuffix(_E)]


def groups() -> dict[str, list[str]]:
    """Group names of the command line and the full task names that each stands for."""
    chosen = {
        "longbench": [name for name, spec in specs().items() if spec.papers],
        "longbench-e": [name for name in plain_names() if name.endswith(_E)],
        "longbench/all": list(specs()),
    }
    return {group: [PREFIX + name for name in names] for group, names in chosen.items()}


def expand(name: str) -> list[str]:
    """Full task names for a group ("longbench", "longbench-e", "longbench/all") or for one task.

    Raises:
        RequestError: there is no such group or task (with the nearest names).
    """
    if name in groups():
        return groups()[name]
    known = [PREFIX + plain for plain in plain_names()]
    if name not in known:
        raise unknown("task", name, [*groups(), *known])
    return [name]
