"""Requests for tests, from the fields of all their groups."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cokv_bench.runs.grid import Grid
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.request import Request
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.options import TaskOptions


def request_of(
    tasks: Sequence[str],
    methods: Sequence[str],
    budgets: Sequence[int],
    *,
    options: TaskOptions | None = None,
    heads: HeadSources | None = None,
    encoding: Encoding | None = None,
    **grid: Any,
) -> Request:
    """A request for these tasks, methods and budgets; further keywords are fields of the grid."""
    return Request(
        Grid(tuple(methods), tuple(budgets), **grid),
        replace(options or TaskOptions(), names=tuple(tasks)),
        encoding or Encoding(),
        heads or HeadSources(),
    )
