"""Shares of the gap between SnapKV and the full cache."""

from pathlib import Path

import numpy as np
import pandas as pd

from cokv_bench.runs.journal import read_records
from cokv_bench.scores.gaps import OVER_ALL, OVER_GAPS, gaps_table, is_sum
from cokv_bench.scores.intervals import interval

UNIVERSAL = Path(__file__).resolve().parents[2] / "results" / "search" / "universal"


def test_gaps_by_hand() -> None:
    scores = {
        ("a/x", "full"): [-1.0, -1.0, -1.0], ("a/x", "snapkv"): [-3.0, -5.0, -4.0],
        ("a/x", "m"): [-2.0, -4.0, -3.0],
        ("b", "full"): [-1.0, -3.0], ("b", "snapkv"): [-1.0, -2.0], ("b", "m"): [-1.0, -1.0],
    }  # fmt: skip
    rows = [
        {"task": task, "example": index, "method": method, "budget": None if method == "full" else 64, "score": score}
        for (task, method), values in scores.items()
        for index, score in enumerate(values)
    ]
    table = gaps_table(pd.DataFrame(rows).astype({"budget": "Int64"})).set_index(["task", "method"]).round(9)
    assert table.loc[("a/x", "m"), ["gap", "gained", "closed"]].tolist() == [3, 1, round(1 / 3, 9)]
    assert table.loc[("b", "m"), ["gap", "gained", "closed"]].tolist() == [-0.5, 0.5, -1]
    assert table.loc[("b", "snapkv"), "closed"] == 0
    assert table.loc[("mean of tasks", "m"), ["closed", "tasks"]].tolist() == [round(-1 / 3, 9), 2]
    assert table.loc[("mean of tasks with a gap", "m"), ["closed", "tasks"]].tolist() == [round(1 / 3, 9), 1]
    assert table.loc[("gain over gap", "m"), "closed"] == round(0.75 / 1.25, 9)
    assert table.loc[("gain over gap, a", "m"), "closed"] == round(1 / 3, 9)
    # A gain of 1 on every example, over a gap of 3 that has this t interval.
    low, high = interval([np.array([2.0, 4.0, 3.0])])
    assert table.loc[("a/x", "m"), ["gap_ci_low", "gap_ci_high"]].tolist() == [round(low, 9), round(high, 9)]
    for row in ("a/x", "gain over gap, a"):
        ends = [round(1 / high, 9), round(1 / low, 9)]
        assert table.loc[(row, "m"), ["closed_ci_low", "closed_ci_high"]].tolist() == ends
    # What b loses may be nothing, and then there is nothing to divide by; means of shares have no intervals at all.
    assert table.loc[["b", "mean of tasks", "mean of tasks with a gap"], "closed_ci_low"].isna().all()
    names = table.index.get_level_values("task").unique()
    assert [name for name in names if not is_sum(name)] == ["a/x", "b"]


def test_tasks_with_a_gap_are_counted_by_budget_and_method() -> None:
    rows: list[tuple[str, int, str, int | None, float]] = []
    for task in "abcd":
        for example in range(6):
            rows.append((task, example, "full", None, 1.0))
            for budget in (64, 256):
                # At 256 tokens the first task alone has a gap.
                gap = 1.0 + example / 100 if budget == 64 or task == "a" else 0.0
                rows.append((task, example, "snapkv", budget, 1 - gap))
                if task != "d":
                    rows.append((task, example, "m", budget, 1 - gap / 2))
    frame = pd.DataFrame(rows, columns=["task", "example", "method", "budget", "score"]).astype({"budget": "Int64"})
    table = gaps_table(frame).set_index(["task", "budget", "method"])["tasks"]
    found = {key[1:]: tasks for key, tasks in table.items() if key[0] == OVER_GAPS}
    assert {key: found[key] for key in found if key[1] != "full"} == {
        (64, "m"): 3,
        (64, "snapkv"): 4,
        (256, "m"): 1,
        (256, "snapkv"): 1,
    }


def test_a_method_that_lacks_a_task_has_no_gain_over_the_gap_of_all() -> None:
    rows = [
        (task, example, method, None if method == "full" else 64, score)
        for task in ("a/x", "a/y")
        for example in range(4)
        for method, score in (("full", -1.0), ("snapkv", -3.0 - example), ("m", -2.0 - example), ("other", -2.0))
        if (task, method) != ("a/y", "m") and (task, method, example) != ("a/x", "other", 3)
    ]
    frame = pd.DataFrame(rows, columns=["task", "example", "method", "budget", "score"]).astype({"budget": "Int64"})
    table = gaps_table(frame).set_index(["task", "method"])
    for name in (OVER_ALL, f"{OVER_ALL}, a"):
        assert sorted(table.loc[name].index) == ["other", "snapkv"]
    # The last example of a/x is not of all methods, so it is in no gap: those of the others are 2, 3 and 4.
    assert table.loc[("a/x", "m"), ["gap", "gained"]].tolist() == [3.0, 1.0]
    assert table.loc[("a/x", "other"), ["gap", "gained"]].tolist() == [3.0, 2.0]
    assert table.loc[("a/y", "other"), "gap"] == 3.5


def test_the_shipped_gaps_come_from_the_shipped_records() -> None:
    frame = pd.DataFrame(read_records(UNIVERSAL)).astype({"budget": "Int64"})
    found = gaps_table(frame).astype({"budget": "int64"})
    shipped = pd.read_csv(UNIVERSAL / "gaps.csv")
    # Which tasks have a gap is for their intervals to say.
    told = shipped["task"] != OVER_GAPS
    columns = ["budget", "task", "gap", "method", "gained", "closed"]
    pd.testing.assert_frame_equal(found.loc[told, columns], shipped.loc[told, columns], check_dtype=False)
