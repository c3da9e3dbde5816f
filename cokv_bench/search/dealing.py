"""Which examples a search follows and which ones choose: no document serves both."""

from collections.abc import Sequence

from cokv_bench.errors import RequestError
from cokv_bench.tasks import Example, Task
from cokv_bench.tasks.families import is_of

Rows = Sequence[tuple[Task, Example]]


def deal(rows: Rows, choose_on: Sequence[str], left_out: Sequence[str]) -> tuple[list[int], list[int]]:
    """The numbers of the rows to search on and to choose on, which share no document.

    Those of the tasks of `choose_on` choose, and no other row of their documents is followed. Where there are no such
    tasks, every fourth document that is new in a task chooses, with all of its rows.

    Args:
        choose_on, left_out: tasks, or benchmarks of tasks; rows of the documents of the latter serve neither.

    Raises:
        RequestError: no task has two documents, or all tasks choose.
    """
    unseen = {example.document for task, example in rows if is_of(task.name, left_out)}
    numbers = [number for number, (_, example) in enumerate(rows) if example.document not in unseen]
    documents = _to_choose_on([rows[number] for number in numbers], choose_on)
    searched: list[int] = []
    chosen: list[int] = []
    for number in numbers:
        task, example = rows[number]
        if example.document not in documents:
            searched.append(number)
        elif not choose_on or is_of(task.name, choose_on):
            chosen.append(number)
    if not chosen or not searched:
        told = f"{'none is' if searched else 'all are'} of {', '.join(choose_on)}"
        told = told if choose_on else "no two are of one task and two documents"
        raise RequestError(
            "A search needs at least two examples per task, one to optimise on and one of another document to "
            f"choose on; of the {len(numbers)} at hand, {told}."
        )
    return searched, chosen


def _to_choose_on(rows: Rows, choose_on: Sequence[str]) -> set[str]:
    if choose_on:
        return {example.document for task, example in rows if is_of(task.name, choose_on)}
    seen: set[str] = set()
    found: set[str] = set()
    of_task: dict[str, int] = {}
    for task, example in rows:
        if example.document in seen:
            continue
        seen.add(example.document)
        place = of_task.get(task.name, 0)
        of_task[task.name] = place + 1
        if place % 4 == 1:
            found.add(example.document)
    return found
