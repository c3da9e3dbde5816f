"""What a run can show: the tests find such differences about as often as said."""

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from cokv_bench.cli.estimates import print_power
from cokv_bench.scores.comparisons import comparisons_table
from cokv_bench.scores.power import observed, planned
from cokv_bench.scores.signflips import family_test


def configuration(methods: int, **counts: int) -> dict[str, Any]:
    names = ["full", "snapkv", *(f"m{k}" for k in range(methods))]
    return {"seed": 0, "methods": names, "tasks": {task: {"examples": n} for task, n in counts.items()}}


@pytest.mark.parametrize(("examples", "methods"), [(72, 1), (72, 8)])
def test_such_differences_are_found_about_as_often_as_said(examples: int, methods: int) -> None:
    (found,) = planned(configuration(methods, needle=examples))
    assert (found.task, found.examples, found.comparisons) == ("needle", examples, methods)
    chance = np.random.default_rng(0)
    gain = found.difference / 100
    hits = 0
    for run in range(150):
        wins = chance.random((examples, methods))
        # 30% of the pairs differ; the first method wins more of them, the others as many as they lose.
        differences = np.where(wins < 0.15, 1.0, np.where(wins < 0.3, -1.0, 0.0))
        differences[:, 0] = np.where(wins[:, 0] < 0.15 + gain / 2, 1.0, np.where(wins[:, 0] < 0.3, -1.0, 0.0))
        sizes = np.full(methods, examples)
        hits += family_test(differences, sizes, run, drawn_at_most=2**14).adjusted[0] < 0.05
    assert 0.75 <= hits / 150 <= 0.96


def test_too_few_examples_show_nothing() -> None:
    (found,) = planned(configuration(8, needle=8))
    assert np.isnan(found.difference)
    (found,) = planned(configuration(1, needle=8))
    assert found.difference > 0
    assert planned(configuration(0, needle=8)) == []


def test_means_over_tasks() -> None:
    needle, ruler = planned(configuration(2, **{"needle": 50, "ruler/vt": 20, "ruler/cwe": 30}))
    assert (ruler.task, ruler.examples, ruler.comparisons) == ("ruler mean", 50, 4)
    # Tasks count alike, so unequal numbers of rows show a little less.
    assert needle.difference < ruler.difference < 1.05 * needle.difference


def test_what_is_printed() -> None:
    stream = io.StringIO()
    found = planned(configuration(2, **{"needle": 50, "jsonl:few": 6}))
    print_power(Console(file=stream, width=200), found, measured=False)
    assert stream.getvalue().splitlines() == [
        "needle: 50 examples show differences of about 27 points or more "
        "(80% power, corrected for 4 comparisons, if 30% of the answers differ).",
        "jsonl:few: 6 examples are too few to show any difference (corrected for 4 comparisons).",
    ]


def test_after_a_run_by_its_own_spread() -> None:
    chance = np.random.default_rng(1)
    rows = [
        {
            "task": "needle",
            "example": f"e{number}",
            "method": method,
            "budget": budget,
            "score": score,
            "kept_tokens": 1,
        }
        for method in ("snapkv", "m0", "m1")
        for budget in (64, 128)
        for number, score in enumerate(chance.normal(0.5, 0.1, 80))
    ]
    frame = pd.DataFrame(rows).astype({"budget": "Int64"})
    (found,) = observed(comparisons_table(frame, configuration(2, needle=80), "snapkv"))
    assert (found.task, found.examples, found.comparisons) == ("needle", 80, 2)
    # Two budgets, two methods: the spread of an example's difference is 10 points.
    assert found.difference == pytest.approx(10 / np.sqrt(80) * (2.29 + 0.84), rel=0.2)
