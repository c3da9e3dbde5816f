"""Paired comparisons: the numbers by hand, their error rates, and what is not compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cokv_bench.budget import read
from cokv_bench.errors import RequestError
from cokv_bench.scores.chance import at_chance
from cokv_bench.scores.comparisons import COLUMNS, choose_baselines, comparisons_table

CONFIGURATION: dict[str, Any] = {"seed": 0, "tasks": {"t/a": {}, "t/b": {}}, "methods": ["full", "snapkv", "x"]}


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
    assert table.loc["t/b", ["ci_low", "ci_high"]].isna().all()  # two rows
    assert table.loc["t/a", "ci_low"] < 25 < table.loc["t/a", "ci_high"]
    assert table["within_noise"].all()  # six examples prove nothing
    assert table["family"].tolist() == ["task", "task", "primary"]
    # 2 / 2^n of the sign patterns are as extreme as when all n examples agree. For t/b they are 1/2, and t/a's three
    # differences are as extreme in 1/4 of all, half of which are among the others; the mean's family is it alone.
    assert table["least_p"].round(4).tolist() == [0.125, 0.625, 0.0312]
    assert table["discriminates"].tolist() == [False, False, True]


def test_a_clear_difference_is_signal_and_order_of_records_does_not_matter() -> None:
    chance = np.random.default_rng(0)
    base = chance.random(60)
    frame = records({"snapkv": {"t/a": list(base)}, "x": {"t/a": list(base + 0.2 + 0.1 * chance.normal(size=60))}})
    table = comparisons_table(frame, CONFIGURATION, "snapkv")
    assert not table["within_noise"].any()
    assert table["ci_low"].item() > 0
    shuffled = comparisons_table(frame.sample(frac=1, random_state=1), CONFIGURATION, "snapkv")
    assert shuffled["difference"].item() == pytest.approx(table["difference"].item())


def test_p_values_are_corrected_for_the_number_of_comparisons() -> None:
    chance = np.random.default_rng(2)
    base = list(chance.random(40))
    tries = {f"m{k}": {"t/a": list(base + 0.1 * chance.normal(size=40))} for k in range(40)}
    frame = records({"snapkv": {"t/a": base}, **tries})
    table = comparisons_table(frame, {**CONFIGURATION, "methods": ["snapkv", *tries]}, "snapkv")
    assert list(table.columns) == COLUMNS
    alone = [comparisons_table(frame[frame["method"].isin(["snapkv", m])], CONFIGURATION, "snapkv") for m in tries]
    raw = np.array([one["p_value"].item() for one in alone])
    assert (raw < 0.05).any()  # chance finds something among forty
    assert table["within_noise"].all()
    assert (table["p_adjusted"].to_numpy() >= raw - 1e-12).all()
    np.testing.assert_allclose(table["p_value"], raw, atol=0.005)


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
    assert choose_baselines(["full", "cokv", "snapkv"]) == ["snapkv"]
    assert choose_baselines(["full", "cokv", "h2o"]) == ["cokv"]
    assert choose_baselines(["full"]) == []
    assert choose_baselines(["cokv", "snapkv"], ["cokv"]) == ["cokv"]
    assert choose_baselines(["cokv", "snapkv"], ["snapkv", "cokv", "snapkv"]) == ["snapkv", "cokv"]
    for wrong in ("snapk", "full"):
        with pytest.raises(RequestError, match="Unknown baseline"):
            choose_baselines(["full", "cokv", "snapkv"], ["cokv", wrong])
    with pytest.raises(RequestError, match="'oracle' is a ceiling"):
        choose_baselines(["cokv", "snapkv", "oracle"], ["oracle"])


def test_single_tasks_do_not_cost_the_mean_its_significance() -> None:
    """The mean's p-value is corrected over means alone, however many tasks there are."""
    chance = np.random.default_rng(4)
    few, many = [f"t/{k}" for k in range(2)], [f"t/{k}" for k in range(40)]

    def mean_of(tasks: list[str]) -> float:
        scores: dict[str, dict[str, list[float]]] = {"snapkv": {}, "x": {}}
        for task in tasks:
            base = chance.random(3)
            scores["snapkv"][task], scores["x"][task] = list(base), list(base + (0.3 if task in few else 0.0))
        configuration = {**CONFIGURATION, "tasks": {task: {} for task in tasks}}
        table = comparisons_table(records(scores), configuration, "snapkv").set_index("task")
        return float(table.loc["mean", "p_adjusted"])

    # Six differences of one sign: two in 64 sign patterns are as far from zero, and nothing else is in the family.
    assert mean_of(few) == mean_of(many) == pytest.approx(2 / 64)


def test_a_mean_over_tasks_is_compared_where_both_methods_have_all_of_them() -> None:
    """As after a crash in the middle of the first example of a task."""
    whole = {"t/a": [0.0, 0.0, 1.0], "t/b": [0.0, 1.0]}
    scores = {"snapkv": whole, "x": whole, "y": {"t/a": [1.0, 1.0, 1.0]}}
    methods = {**CONFIGURATION, "methods": ["snapkv", "x", "y"]}
    table = comparisons_table(records(scores), methods, "snapkv")
    assert table.groupby("method")["task"].agg(list).to_dict() == {"x": ["t/a", "t/b", "mean"], "y": ["t/a"]}
    # Against a baseline that lacks a task there is no mean at all.
    assert "mean" not in set(comparisons_table(records(scores), methods, "y")["task"])
    # Nor over the budgets, where it is one of them that lacks the task.
    both = pd.concat([records(scores | {"y": whole}, budget=32), records(scores)])
    means = comparisons_table(both, methods, "snapkv")
    means = means[(means["method"] == "y") & (means["task"] == "mean")]
    assert means[["family", "budget"]].to_numpy().tolist() == [["budget", 32]]


def test_budgets_are_averaged_example_by_example_for_the_primary_tests() -> None:
    parts = [
        records({"snapkv": {"t/a": [0, 0, 1, 1]}, "x": {"t/a": [1, 0, 0, 1]}}, budget=64),
        records({"snapkv": {"t/a": [0, 0, 0, 1]}, "x": {"t/a": [1, 1, 1, 1]}}, budget=128),
    ]
    table = comparisons_table(pd.concat(parts), {**CONFIGURATION, "tasks": {"t/a": {}}}, "snapkv")
    assert table["family"].tolist() == ["primary", "budget", "budget"]
    assert table["budget"].astype("Float64").tolist()[1:] == [64, 128]
    assert pd.isna(table.loc[0, "budget"])
    assert table["difference"].tolist() == [37.5, 0.0, 75.0]
    # By example: 100, 50, 0 and 0 points.
    assert table.loc[0, ["n", "wins", "ties", "losses"]].tolist() == [4, 2, 2, 0]
    assert table.loc[0, "p_value"] == 0.5
    # An example that lacks a budget is in the other one alone.
    partly = pd.concat([parts[0], parts[1][parts[1]["example"] != "t/a0"]])
    table = comparisons_table(partly, {**CONFIGURATION, "tasks": {"t/a": {}}}, "snapkv")
    assert table["n"].tolist() == [3, 4, 3]
    # Where the totals of one budget differ, so do those of the mean.
    parts[1].loc[(parts[1]["method"] == "x") & (parts[1]["example"] == "t/a0"), "kept_tokens"] = 641
    table = comparisons_table(pd.concat(parts), {**CONFIGURATION, "tasks": {"t/a": {}}}, "snapkv")
    assert table["difference"].isna().tolist() == [True, False, True]


def test_needles_that_were_measured_once() -> None:
    """CoKV is above SnapKV over the four budgets; PyramidKV at 128 tokens has its exact p-value.

    needles.json: whether each of 72 needles was found, by method and budget (0: none), at revision 7da1d39, when all
    methods had their published knobs.
    """
    found = json.loads((Path(__file__).parent / "needles.json").read_text())
    frame = pd.DataFrame(
        {"task": "needle", "example": str(example), "method": name.split()[0], "budget": int(name.split()[1]) or pd.NA}
        | {"score": float(hit), "kept_tokens": 1}
        for name, hits in found.items()
        for example, hit in enumerate(hits)
    ).astype({"budget": "Int64"})
    table = comparisons_table(frame, {"tasks": {"needle": {"metric": "found"}}, "seed": 0}, "snapkv")
    table = table.fillna({"budget": 0})
    cells = table.set_index(["method", "budget"])
    assert cells.loc[("cokv", 0), "difference"] == pytest.approx(12.15, abs=0.01)
    assert cells.loc[("cokv", 0), "p_adjusted"] < 0.03
    assert not cells.loc[("cokv", 0), "within_noise"]
    assert cells.loc[("pyramidkv", 128), "p_value"] == pytest.approx(0.00418, abs=5e-6)
    assert table["discriminates"].all()


def test_where_the_full_cache_is_at_chance_nothing_can_be_told_apart() -> None:
    chance = np.random.default_rng(5)
    good, bad = list((chance.random(40) < 0.8).astype(float)), list((chance.random(40) < 0.05).astype(float))
    scores = {
        "full": {"t/a": good, "t/b": bad},
        "snapkv": {"t/a": good[::-1], "t/b": bad[::-1]},
        "x": {"t/a": good, "t/b": bad},
        "streaming-llm": {"t/a": bad, "t/b": bad[::-1]},
    }
    frame = records(scores)
    frame.loc[frame["method"] == "full", "budget"] = pd.NA
    without = frame[frame["method"] != "streaming-llm"]
    for each in (frame, without):
        assert at_chance(each, CONFIGURATION) == ["t/b"]
        table = comparisons_table(each, CONFIGURATION, "snapkv")
        assert table.groupby("task")["discriminates"].all().to_dict() == {"t/a": True, "t/b": False, "mean": True}
    # Nobody knows what log-probabilities are at chance.
    assert at_chance(without, {**CONFIGURATION, "utility": "loglik"}) == []
    assert at_chance(without[without["method"] != "full"], CONFIGURATION) == []


def test_chance_is_at_the_budget_that_keeps_least_and_never_hides_what_is_found() -> None:
    """400 tokens keep more of these prompts than 5% of each does, and a blind method loses nothing at 400."""
    whole, none = [1.0] * 20, [0.0] * 20
    parts = [
        records({"full": {"t/a": whole}}).assign(budget=None),
        records({"snapkv": {"t/a": whole}, "x": {"t/a": whole}, "streaming-llm": {"t/a": whole}}, kept_tokens=4000),
        records({"snapkv": {"t/a": whole}, "x": {"t/a": none}, "streaming-llm": {"t/a": none}}, kept_tokens=250),
    ]
    budgets: list[Any] = [None, 400, read("5%")]
    frame = pd.concat(
        [
            part.assign(budget=pd.Series([each] * len(part), dtype=object))
            for part, each in zip(parts, budgets, strict=True)
        ]
    )
    configuration = {**CONFIGURATION, "tasks": {"t/a": {}}}
    assert at_chance(frame, configuration) == []
    # At a generous budget alone the blind method hides nothing either.
    lost = records({"full": {"t/a": whole}, "snapkv": {"t/a": whole}, "x": {"t/a": none}, "random": {"t/a": whole}})
    table = comparisons_table(lost, configuration, "snapkv").set_index("method")
    assert at_chance(lost, configuration) == ["t/a"]
    assert not table.loc["x", "within_noise"]
    assert table["discriminates"].to_dict() == {"x": True, "random": False}


def test_of_a_mean_that_lacks_a_task_nothing_is_said() -> None:
    scores = {"full": {"t/a": [1.0] * 9, "t/b": [0.0] * 9}, "snapkv": {f"t/{name}": [1.0] * 9 for name in "abc"}}
    configuration = {**CONFIGURATION, "tasks": {f"t/{name}": {} for name in "abc"}}
    for full in (scores["full"], {"t/a": [0.0] * 9, "t/b": [0.0] * 9}):
        frame = records({**scores, "full": full})
        frame.loc[frame["method"] == "full", "budget"] = pd.NA
        assert "t/b" in at_chance(frame, configuration)
        assert "mean" not in at_chance(frame, configuration)


@pytest.mark.parametrize("blind", ["random:seed=3", "streaming-llm:sinks=8", "random"])
def test_chance_is_what_a_blind_method_scores_whatever_its_options(blind: str) -> None:
    whole, configuration = [0.9, 1.0, 0.8, 1.0, 0.9, 1.0], {**CONFIGURATION, "tasks": {"t/a": {}}}
    for scores, found in ((whole, ["t/a"]), ([0.0] * 6, [])):
        frame = records({"full": {"t/a": whole}, blind: {"t/a": scores}})
        assert at_chance(frame, configuration) == found
