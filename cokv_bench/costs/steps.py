"""What commands do: their prompts and answers, counted without a model and without downloads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from cokv_bench.costs.estimate import Load
from cokv_bench.limits import DEFAULT_SAMPLES, Stopping
from cokv_bench.policies import find_method
from cokv_bench.policies.names import FULL, each_once
from cokv_bench.runs.grid import Grid
from cokv_bench.tasks import Split
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.family import Size, UncountedError
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.registry import expand, family_of


@dataclass
class Work:
    """What a command does, as far as it is known.

    Attributes:
        loads: a task and length each.
        published: tasks whose rows nobody has counted, so that those of the published files are taken.
        uncounted: tasks that are in no load -> why.
    """

    loads: list[Load] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    uncounted: dict[str, str] = field(default_factory=dict)


def eval_work(grid: Grid, tasks: TaskOptions, encoding: Encoding, counted: Mapping[str, int]) -> Work:
    """Of an evaluation.

    Args:
        counted: rows of tasks, all splits together; the splits are taken to have their shares of them.

    Raises:
        RequestError: an unknown task, method or split.
    """
    grid.check()
    methods = each_once(grid.methods)
    rows = sum(1 if method == FULL else len(grid.budgets) for method in methods)
    accumulated = any(find_method(method).needs_accumulated_attention for method in methods)

    def load(size: Size, length: int) -> Load:
        return Load(size.examples, length, rows, grid.questions_per_context * size.new_tokens, accumulated)

    return _work(grid.with_questions(tasks), encoding, cast(Split, grid.split), counted, load)


def profile_work(stopping: Stopping, tasks: TaskOptions, encoding: Encoding, counted: Mapping[str, int]) -> Work:
    """Of a profile, which measures its coalitions on the profile split; arguments and errors as above.

    One that a time or a target ends is taken to have the default number of samples.
    """
    coalitions = stopping.rows or 2 * DEFAULT_SAMPLES
    return _work(
        tasks,
        encoding,
        "profile",
        counted,
        lambda size, length: Load(size.examples, length, coalitions, size.new_tokens),
    )


def scores_work(tasks: TaskOptions, encoding: Encoding, counted: Mapping[str, int]) -> Work:
    """Of head scores: one pass over each example of the profile split; arguments and errors as above."""
    return _work(tasks, encoding, "profile", counted, lambda size, length: Load(size.examples, length, 1, 1))


def _work(
    tasks: TaskOptions,
    encoding: Encoding,
    split: Split,
    counted: Mapping[str, int],
    load: Callable[[Size, int], Load],
) -> Work:
    found = Work()
    for task in dict.fromkeys(full for name in tasks.names for full in expand(name, tasks)):
        try:
            size = family_of(task).size(task, tasks, split, counted.get(task))
            lengths = size.lengths or (_longest(encoding),)
        except UncountedError as error:
            found.uncounted[task] = str(error)
            continue
        if size.published:
            found.published.append(task)
        found.loads += [load(size, length) for length in lengths]
    return found


def _longest(encoding: Encoding) -> int:
    """Tokens to which prompts are cut whose length nobody asked for."""
    if encoding.max_length is None:
        raise UncountedError("without 'max-length' the length of its prompts is the data's and the model's")
    return encoding.max_length
