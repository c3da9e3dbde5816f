"""Which means over tasks a run has: one a benchmark, since a mean over needles and summaries says nothing."""

from collections.abc import Iterable

from cokv_bench.tasks.registry import family_of

_MEAN = "mean"


def means(tasks: Iterable[str]) -> dict[str, list[str]]:
    """The tasks behind each mean, by the name of its row or column.

    A run of several tasks of one benchmark has a "mean". Of several benchmarks, each with more than one task has its
    own, such as "longbench mean"; which benchmark a task counts in, its family says.
    """
    groups: dict[str, list[str]] = {}
    for task in tasks:
        groups.setdefault(family_of(task).mean(task), []).append(task)
    several = {name: group for name, group in groups.items() if len(group) > 1}
    return {_MEAN if len(groups) == 1 else f"{name} {_MEAN}": group for name, group in several.items()}


def groups(tasks: Iterable[str]) -> dict[str, list[str]]:
    """The tasks behind each row or column of a table: of each task itself, and of each mean."""
    tasks = list(tasks)
    return {**{task: [task] for task in tasks}, **means(tasks)}


def is_mean(task: str) -> bool:
    """Whether a row's task is such a mean; no task is called like one."""
    return task == _MEAN or task.endswith(f" {_MEAN}")


def overall(tasks: Iterable[str]) -> list[str]:
    """What sums a run up: its means, and the tasks that are in none, in the order of the tasks."""
    tasks = list(tasks)
    of = {task: name for name, group in means(tasks).items() for task in group}
    return list(dict.fromkeys(of.get(task, task) for task in tasks))
