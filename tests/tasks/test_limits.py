"""How many examples tasks have: a limit counts rows, and examples of each length where tasks are made at any length."""

from typing import Any

import pytest

from cokv_bench.tasks.family import Size
from cokv_bench.tasks.registry import TaskOptions, family_of
from tests.tasks.made_needles import make


def size(task: str, split: Any = "test", **options: Any) -> Size:
    return family_of(task).size(task, TaskOptions(**options), split, 100)


@pytest.mark.parametrize("task", ["needle", "ruler/vt", "recall/quotes", "text"])
def test_tasks_of_any_length_make_examples_of_each(task: str) -> None:
    for options, count in (({}, 10), ({"limit": 5}, 5), ({"limit": 2, "examples": 7}, 7)):
        found = size(task, lengths=(400, 500), **options)
        assert (found.examples, found.lengths) == (count, (400, 500))
        assert size(task, "all", **options).examples == 3 * count


def test_all_splits_are_counted_as_they_are_made() -> None:
    assert len(make(lengths=(200,), examples=2).examples("all")) == size("needle", "all", examples=2).examples


def test_a_limit_counts_rows_beside_a_number_of_examples() -> None:
    options: dict[str, Any] = {"limit": 2, "examples": 7, "lengths": (400,)}
    assert size("longbench/qasper", **options).examples == 2
    assert size("needle", **options).examples == 7
