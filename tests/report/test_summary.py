"""The sentences about a run say what its tables say, whichever way it went."""

from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from cokv_bench.report.folders import read_folders
from cokv_bench.report.layout import lay_out
from cokv_bench.report.summary import summary
from cokv_bench.scores.tables import Tables, count_tables

EXAMPLES = 24
COMMITTED = Path(__file__).parents[2] / "results/rankings/needles"
#: Whether a method finds the needle of an example, by its number.
Finds = Callable[[int], bool]


def _run(methods: Mapping[str, Finds], *, budgets: int = 1, task: str = "needle", metric: str = "found") -> list[str]:
    """The summary of a made run: `full` keeps 1,000 tokens, the others 32, and 64 and so on where asked."""
    records: list[dict[str, Any]] = []
    kept = [32 * 2**step for step in range(budgets)]
    for index in range(EXAMPLES):
        for method, finds in methods.items():
            for budget in (None,) if method == "full" else kept:
                tokens = 90 * (budget or 1000)
                records.append(
                    {
                        "task": task,
                        "example": f"e{index}",
                        "method": method,
                        "budget": budget,
                        "score": float(finds(index)),
                        "prompt_tokens": 1000,
                        "kept_tokens": tokens,
                        "kv_bytes": 512 * tokens,
                        "new_tokens": 3,
                        "length": 1024,
                        "depth": 50.0,
                        "word_recall": 1.0,
                    }
                )
    configuration = {
        "model": {"id": "m", "layers": 30, "kv_heads": 3},
        "tasks": {task: {"version": 1, "metric": metric, "examples": EXAMPLES}},
        "methods": sorted(methods),
        "seed": 0,
    }
    return summary(count_tables(records, configuration), configuration)


def _tables(
    planned: list[str], begun: list[str], *, unequal_at: int | None = None, lacks: str | None = None
) -> tuple[Tables, dict[str, Any]]:
    """The tables of a run at 64 and 128 tokens that has records of some of its tasks alone, and its configuration.

    Args:
        unequal_at: budget at which one method kept a token too many.
        lacks: a method that has no record of the last task.
    """
    methods = {"full": 0.9, "snapkv": 0.3, "cokv": 0.6}
    records: list[dict[str, Any]] = []
    for task in begun:
        there = {method: score for method, score in methods.items() if task != begun[-1] or method != lacks}
        for index, (method, score) in product(range(20), there.items()):
            for budget in (None,) if method == "full" else (64, 128):
                tokens = 4 * (budget or 200) + (method == "cokv" and budget == unequal_at)
                records.append(
                    {
                        "task": task,
                        "example": f"e{index}",
                        "method": method,
                        "budget": budget,
                        "score": score + index % 3 / 100,
                        "prompt_tokens": 200,
                        "kept_tokens": tokens,
                        "kv_bytes": tokens,
                        "new_tokens": 3,
                        "length": 1000,
                    }
                )
    configuration = {
        "model": {"id": "m", "layers": 2, "kv_heads": 2},
        "tasks": {task: {"version": 1, "metric": "qa_f1", "examples": 20} for task in planned},
        "methods": sorted(methods),
        "seed": 0,
    }
    return count_tables(records, configuration), configuration


def _stopped(planned: list[str], begun: list[str], **changes: Any) -> list[str]:
    """The summary of `_tables`."""
    return summary(*_tables(planned, begun, **changes))


def always(index: int) -> bool:
    return True


def third(index: int) -> bool:
    return index % 3 == 0


def test_a_significant_lead_is_told_with_what_was_found() -> None:
    found = _run({"full": always, "snapkv": third, "cokv-search": lambda index: index != 0})
    assert found[0].startswith(
        "At 32 tokens per head (3% of the prompt), cokv-search finds 23 of 24 needles, snapkv 8 and the full cache 24; "
        "the difference from snapkv is significant (corrected p "
    )


def test_a_lead_that_may_be_luck_is_not_called_significant_and_the_power_is_told() -> None:
    found = _run({"full": always, "snapkv": third, "cokv-search": lambda index: index % 3 == 0 or index == 1})
    assert "cokv-search finds 9 of 24 needles, snapkv 8" in found[0]
    assert "the difference from snapkv is not significant (corrected p = " in found[0]
    assert found[-1].startswith("A difference that is not significant may still be there: this run finds ")


def test_a_reversed_result_is_told_as_such() -> None:
    found = _run({"full": always, "snapkv": always, "cokv-search": third})
    assert found[0] == (
        "At 32 tokens per head (3% of the prompt), snapkv finds 24 of 24 needles and the full cache 24; no other "
        "method does better."
    )
    assert found[1] == "On needles, cokv-search is significantly worse than snapkv."


def test_over_several_budgets_the_primary_test_is_told() -> None:
    found = _run({"full": always, "snapkv": third, "cokv": always}, budgets=2)
    assert "; over both budgets it is 66.7 points above snapkv, and the difference is significant" in found[0]
    assert "over the 3 budgets" in _run({"full": always, "snapkv": third, "cokv": always}, budgets=3)[0]


def test_other_methods_are_told_by_name_where_they_differ() -> None:
    made = {"full": always, "snapkv": third, "ada-snapkv": always, "cokv": always, "random": lambda index: False}
    found = _run(made)
    assert found[1] == "On needles, cokv is significantly better and random is significantly worse than snapkv."


def test_scores_that_are_no_counts_are_told_in_percent() -> None:
    found = _run({"full": always, "snapkv": third, "cokv": always}, task="ruler/vt", metric="share_found")
    assert " on ruler/vt, cokv scores 100.0%, snapkv 33.3% and the full cache 100.0%; " in found[0]


def test_where_the_full_cache_finds_nothing_no_winner_is_named() -> None:
    found = _run({"full": lambda index: False, "snapkv": third, "cokv": always})
    assert found == [
        "On needles this run cannot tell methods apart: there are too few examples, or the full cache does not score "
        "above chance."
    ]


def test_one_method_alone_has_no_summary() -> None:
    assert _run({"full": always, "snapkv": third}) == []


@pytest.mark.skipif(not COMMITTED.is_dir(), reason="the results are not in the distribution")
def test_sentences_of_a_committed_run_are_those_of_its_files() -> None:
    (run,), _ = read_folders([COMMITTED])
    first = summary(run.tables, run.configuration, run.unit)[0]
    scores, tests = run.tables["scores.csv"], run.tables["comparisons.csv"]
    best = "cokv-search:file=fading"
    row = scores[(scores["method"] == best) & (scores["budget"] == 32)].iloc[0]
    assert f"{best} finds {row['score'] * row['n'] / 100:.0f} of {row['n']} needles" in first
    test = tests[(tests["baseline"] == "snapkv") & (tests["method"] == best) & (tests["family"] == "primary")].iloc[0]
    assert f"{test['difference']:.1f} points above snapkv" in first


def test_answers_to_several_questions_are_not_counted() -> None:
    source = COMMITTED.parent / "questions"
    if not source.is_dir():
        pytest.skip("the results are not in the distribution")
    (run,), _ = read_folders([source])
    told = summary(run.tables, run.configuration, run.unit)[0]
    assert "on needles, headkv scores 50.0%, snapkv 30.0%" in told


def test_a_mean_of_a_stopped_run_is_over_the_tasks_that_it_began() -> None:
    begun = ["longbench/qasper", "longbench/hotpotqa"]
    for others in (["longbench/trec", "longbench/lcc"], ["ruler/vt", "ruler/cwe"]):
        assert " on the 2 tasks of longbench, cokv scores " in _stopped([*begun, *others], begun)[0]
    assert " on longbench/qasper, cokv scores " in _stopped(begun, begun[:1])[0]


def test_a_method_that_lacks_a_task_is_in_no_sentence_about_their_mean() -> None:
    tasks = ["longbench/qasper", "longbench/hotpotqa"]
    assert _stopped(tasks, tasks)
    for lacks in ("cokv", "snapkv"):
        tables, configuration = _tables(tasks, tasks, lacks=lacks)
        assert summary(tables, configuration) == []
        layout = lay_out(tables, {**configuration, "window": 8, "split": "test"})
        # A table of tests without a test would be a header alone.
        assert (layout.primary, layout.comparisons) == ((), ())


def test_budgets_with_different_totals_are_named() -> None:
    (told,) = _stopped(["longbench/qasper"], ["longbench/qasper"], unequal_at=128)
    assert told == (
        "On longbench/qasper the methods kept different totals at 128 tokens per head, so they are not compared there, "
        "nor over the budgets."
    )


def test_captions_count_the_comparisons_that_were_made() -> None:
    tables, configuration = _tables(["longbench/qasper"], ["longbench/qasper"], unequal_at=128)
    (grid,) = lay_out(tables, {**configuration, "window": 8, "split": "test"}).comparisons
    assert grid.caption.endswith("p corrected for 0 comparisons, at single budgets for 1")
