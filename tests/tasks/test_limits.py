"""How many examples tasks have: a limit counts rows, and examples of each length where tasks are made at any length."""

from collections.abc import Iterator
from typing import Any

import pytest

from cokv_bench.errors import RequestError
from cokv_bench.tasks.family import Family, Size
from cokv_bench.tasks.registry import FAMILIES, TaskOptions, add_family, check, family_of
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
    check(["needle", "longbench/qasper"], TaskOptions(**options))
    check(["jsonl:rows.jsonl"], TaskOptions(**options))
    check(["needle"], TaskOptions(limit=2))


@pytest.mark.parametrize("names", [["needle"], ["ruler", "recall/quotes", "text"]])
def test_a_limit_that_no_task_takes_is_refused(names: list[str]) -> None:
    with pytest.raises(RequestError, match=r"--limit 2 has no effect with --examples 7: .* leave one of the two"):
        check(names, TaskOptions(limit=2, examples=7))


class Other(Family):
    """A benchmark of somebody else, which may take both."""

    name = "other"

    def lines(self) -> dict[str, str]:
        return {"other": "of somebody else"}

    def make(self, name: str, model: Any, options: TaskOptions) -> Any:
        raise NotImplementedError


@pytest.fixture
def other() -> Iterator[None]:
    add_family(Other())
    yield
    del FAMILIES["other"]


@pytest.mark.usefixtures("other")
def test_a_benchmark_that_says_nothing_may_take_both() -> None:
    check(["other"], TaskOptions(limit=2, examples=7))
