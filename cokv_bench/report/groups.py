"""All figures of a report, in the order of the page."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cokv_bench.budget import in_tokens, read
from cokv_bench.errors import RequestError
from cokv_bench.report.costs import benchmarks
from cokv_bench.report.estimators import estimators
from cokv_bench.report.figures import Group
from cokv_bench.report.folders import Bench, Run
from cokv_bench.report.gaps import gaps
from cokv_bench.report.head_figures import head_figures
from cokv_bench.report.heads import BUDGET, HeadMap, maps_of_run
from cokv_bench.report.scores import by_unit, curves, differences, needles


def make_groups(
    runs: Sequence[Run],
    benches: Sequence[Bench],
    *,
    heads: Sequence[HeadMap] = (),
    estimated: Sequence[Path] = (),
    budget: int | None = None,
) -> list[Group]:
    """The figures that the folders and files give.

    Args:
        heads: further head maps, shown before those of the runs' static methods.
        estimated: folders of profiles, and files that `scripts/estimator_quality.py --json` wrote.
        budget: of head maps that any budget can be asked of; default those of the runs, or 128.

    Raises:
        RequestError: a file is not what it should be, or the head maps do not fit together.
    """
    budgets = [budget] if budget is not None else _budgets(runs)
    numbers = [make(unit, alike) for unit, alike in by_unit(runs).items() for make in (curves, gaps, differences)]
    groups = (
        *numbers,
        needles(runs),
        head_figures(_all_maps(runs, heads, budgets), budgets),
        estimators(estimated),
        benchmarks(benches),
    )
    return [group for group in groups if group is not None]


def _budgets(runs: Sequence[Run]) -> list[int]:
    """Those of the runs in tokens: what a share gives each head, the prompt decides."""
    named = {read(budget) for run in runs for budget in run.configuration["budgets"]}
    return sorted(in_tokens(budget for budget in named if budget is not None)) or [BUDGET]


def _all_maps(runs: Sequence[Run], given: Sequence[HeadMap], budgets: Sequence[int]) -> list[HeadMap]:
    """The given maps and those of the runs, once where two runs have the same."""
    maps = {m.name: m for m in given}
    if len(maps) < len(given):
        raise RequestError(f"Two head maps have the same name ({', '.join(m.name for m in given)}); rename one.")
    for run in runs:
        for m in maps_of_run(run.configuration):
            there = maps.get(m.name)
            if there is None:
                maps[m.name] = m
            elif any(not np.array_equal(m.tokens(budget), there.tokens(budget)) for budget in budgets):
                name = f"{m.name} · {run.name}"
                maps[name] = replace(m, name=name)
    return list(maps.values())
