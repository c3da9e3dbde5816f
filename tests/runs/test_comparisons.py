"""Paired comparisons: the numbers by hand, their error rates, and what is not compared."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from cokv_bench.errors import RequestError
from cokv_bench.runs.comparisons import _p_value, choose_baseline, comparisons_table

CONFIGURATION = {"seed": 0, "tasks": {"t/a": {}, "t/b": {}}, "methods": ["full", "snapkv", "x"]}


def records(scores: dict[str, dict[str, list[float]]], budget: int = 64, **changes: Any) -> pd.DataFrame:
    """Records of method -> task -> scores."""
    rows = [
        {
            "task": task,
            "example": f"{task}{number}",
            "method": method,
            "budget": budget,
            "score": score,
            "kept_tokens": 640,
        }
        for method, tasks in scores.items()
        for task, values in tasks.items()
        for number, score in enumerate(values)
    ]
    frame = pd.DataFrame(rows).assign(**changes)
    return frame.assign(budget=frame["budget"].astype("Int64"))


def test_a_comparison_by_hand() -> None:
    frame = records(
        {"snapkv": {"t/a": [0, 0, 1, 1], "t/b": [0.5, 0.5]}, "x": {"t/a": [1, 1, 1, 0], "t/b": [1.0, 1.0]}},
    )
    table = comparisons_table(frame, CONFIGURATION, "snapkv").set_index("task")
    assert list(table.index) == ["t/a", "t/b", "mean"]
    assert table["difference"].tolist() == [25.0, 50.0, 37.5]  # the mean counts tasks alike, not examples
    assert table.loc["t/a", ["wins", "ties", "losses"]].tolist() == [2, 1, 1]
    assert table.loc["t/a", "win_probability"] == 2.5 / 4
    assert table.loc["t/b", ["ci_low", "ci_high"]].tolist() == [50.0, 50.0]
    assert table.loc["t/a", "ci_low"] < 25 < table.loc["t/a", "ci_high"]
    assert table["within_noise"].all()  # six examples prove nothing


def test_a_clear_difference_is_signal_and_order_of_records_does_not_matter() -> None:
    chance = np.random.default_rng(0)
    base = chance.random(60)
    frame = records({"snapkv": {"t/a": list(base)}, "x": {"t/a": list(base + 0.2 + 0.1 * chance.normal(size=60))}})
    table = comparisons_table(frame, CONFIGURATION, "snapkv")
    assert not table["within_noise"].any()
    assert table["ci_low"].item() > 0
    shuffled = comparisons_table(frame.sample(frac=1, random_state=1), CONFIGURATION, "snapkv")
    assert shuffled["difference"].item() == pytest.approx(table["difference"].item())


def test_p_values_of_signs_are_exact_for_few_examples() -> None:
    assert _p_value([np.ones(6)], 0) == pytest.approx(2 / 2**6)
    assert _p_value([np.array([1.0, 0, 0])], 0) == 1.0
    assert _p_value([np.zeros(5)], 0) == 1.0
    ranks = np.arange(1.0, 9) * np.array([1, 1, 1, -1, 1, 1, 1, 1])  # ranks are their own ranks
    assert _p_value([ranks], 0) == pytest.approx(wilcoxon(ranks, method="exact").pvalue)


def test_alike_methods_are_called_different_as_rarely_as_said() -> None:
    chance = np.random.default_rng(1)
    small = [_p_value([chance.choice([-1.0, 0.0, 1.0], 30), chance.normal(size=10)], 0) < 0.05 for _ in range(300)]
    assert 0.02 <= np.mean(small) <= 0.085


def test_p_values_are_corrected_for_the_number_of_comparisons() -> None:
    chance = np.random.default_rng(2)
    base = list(chance.random(40))
    tries = {f"m{k}": {"t/a": list(base + 0.1 * chance.normal(size=40))} for k in range(40)}
    frame = records({"snapkv": {"t/a": base}, **tries})
    table = comparisons_table(frame, {**CONFIGURATION, "methods": ["snapkv", *tries]}, "snapkv")
    alone = [comparisons_table(frame[frame["method"].isin(["snapkv", m])], CONFIGURATION, "snapkv") for m in tries]
    raw = np.array([one["p_value"].item() for one in alone])
    assert (raw < 0.05).any()  # chance finds something among forty
    assert table["within_noise"].all()
    assert (table["p_value"].to_numpy() >= raw - 1e-12).all()


def test_unequal_totals_are_not_compared() -> None:
    frame = records({"snapkv": {"t/a": [0, 1, 0]}, "x": {"t/a": [1, 1, 1]}, "y": {"t/a": [1, 1, 0]}})
    frame.loc[(frame["method"] == "x") & (frame["example"] == "t/a1"), "kept_tokens"] = 641
    table = comparisons_table(frame, CONFIGURATION, "snapkv").set_index("method")
    assert np.isnan(table.loc["x", "difference"])
    assert pd.isna(table.loc["x", "within_noise"])
    assert table.loc["y", "difference"] == pytest.approx(100 / 3)


def test_full_is_of_another_total_and_no_part_of_it() -> None:
    frame = records({"snapkv": {"t/a": [0, 1]}, "full": {"t/a": [1, 1]}})
    frame.loc[frame["method"] == "full", "budget"] = pd.NA
    assert len(comparisons_table(frame, CONFIGURATION, "snapkv")) == 0


def test_the_baseline() -> None:
    assert choose_baseline(["full", "cokv", "snapkv"], None) == "snapkv"
    assert choose_baseline(["full", "cokv", "h2o"], None) == "cokv"
    assert choose_baseline(["full"], None) is None
    assert choose_baseline(["cokv", "snapkv"], "cokv") == "cokv"
    for wrong in ("snapk", "full"):
        with pytest.raises(RequestError, match="Unknown baseline"):
            choose_baseline(["full", "cokv", "snapkv"], wrong)


def test_single_tasks_do_not_cost_the_mean_its_significance() -> None:
    """The mean's p-value is corrected over means alone, however many tasks there are."""
    chance = np.random.default_rng(4)
    few, many = [f"t/{k}" for k in range(2)], [f"t/{k}" for k in range(40)]

    def mean_of(tasks: list[str]) -> float:
        scores = {"snapkv": {}, "x": {}}
        for task in tasks:
            base = chance.random(3)
            scores["snapkv"][task], scores["x"][task] = list(base), list(base + (0.3 if task in few else 0.0))
        configuration = {**CONFIGURATION, "tasks": {task: {} for task in tasks}}
        table = comparisons_table(records(scores), configuration, "snapkv").set_index("task")
        return float(table.loc["mean", "p_value"])

    # Six differences of one sign: two in 64 sign patterns are as far from zero, and nothing else is in the family.
    assert mean_of(few) == mean_of(many) == pytest.approx(2 / 64)
