"""Shares of the gap between SnapKV and the full cache."""

from pathlib import Path

import pandas as pd

from cokv_bench.runs.gaps import gaps_table, is_sum
from cokv_bench.runs.journal import read_records

UNIVERSAL = Path(__file__).resolve().parents[2] / "results" / "search" / "universal"


def test_gaps_by_hand() -> None:
    scores = {
        ("a/x", "full"): [-0.01, -0.01], ("a/x", "snapkv"): [-0.03, -0.05], ("a/x", "m"): [-0.02, -0.04],
        ("b", "full"): [-0.01, -0.03], ("b", "snapkv"): [-0.01, -0.02], ("b", "m"): [-0.01, -0.01],
    }  # fmt: skip
    rows = [
        {"task": task, "example": index, "method": method, "budget": None if method == "full" else 64, "score": score}
        for (task, method), values in scores.items()
        for index, score in enumerate(values)
    ]
    table = gaps_table(pd.DataFrame(rows).astype({"budget": "Int64"}), 0).set_index(["task", "method"]).round(9)
    assert table.loc[("a/x", "m"), ["gap", "gained", "closed"]].tolist() == [3, 1, round(1 / 3, 9)]
    assert table.loc[("b", "m"), ["gap", "gained", "closed"]].tolist() == [-0.5, 0.5, -1]
    assert table.loc[("b", "snapkv"), "closed"] == 0
    assert table.loc[("mean of tasks", "m"), ["closed", "tasks"]].tolist() == [round(-1 / 3, 9), 2]
    assert table.loc[("mean of tasks with a gap", "m"), ["closed", "tasks"]].tolist() == [round(1 / 3, 9), 1]
    assert table.loc[("gain over gap", "m"), "closed"] == round(0.75 / 1.25, 9)
    assert table.loc[("gain over gap, a", "m"), "closed"] == round(1 / 3, 9)
    # What b loses may be nothing, and then there is nothing to divide by; means of shares have no intervals at all.
    assert table.loc[("a/x", "m"), ["closed_ci_low", "closed_ci_high"]].tolist() == [0.25, 0.5]
    assert table.loc[("gain over gap, a", "m"), ["closed_ci_low", "closed_ci_high"]].tolist() == [0.25, 0.5]
    assert table.loc[["b", "mean of tasks", "mean of tasks with a gap"], "closed_ci_low"].isna().all()
    names = table.index.get_level_values("task").unique()
    assert [name for name in names if not is_sum(name)] == ["a/x", "b"]


def test_the_shipped_gaps_come_from_the_shipped_records() -> None:
    frame = pd.DataFrame(read_records(UNIVERSAL)).astype({"budget": "Int64"})
    found = gaps_table(frame, 0).astype({"budget": "int64"})
    pd.testing.assert_frame_equal(found, pd.read_csv(UNIVERSAL / "gaps.csv"), check_dtype=False)
