"""Which numbers of several runs stand side by side, and how they compare on common examples."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cokv_bench.runs.submission import read_finished
from cokv_bench.scores import signflips
from cokv_bench.scores.boards import MEAN, make_boards
from cokv_bench.scores.comparisons import comparisons_table
from cokv_bench.scores.signflips import family_test
from cokv_bench.scores.submissions import Submission

RESULTS = Path(__file__).resolve().parents[2] / "results"


def submission(
    name: str,
    scores: dict[str, list[float]],
    *,
    examples: list[int] | None = None,
    budgets: tuple[int | str, ...] = (64,),
    task: str = "needle",
    tasks: dict[str, Any] | None = None,
    kept: int = 64,
    **settings: Any,
) -> Submission:
    """Of method -> score of each example; the full cache is always right."""
    of = list(range(len(next(iter(scores.values()))))) if examples is None else examples
    scores = {"full": [1.0] * len(of), **scores}
    records = [
        {
            "task": task,
            "example": f"e{example:03d}",
            "method": method,
            "budget": budget,
            "score": score,
            "prompt_tokens": 500,
            "kept_tokens": 500 if budget is None else kept,
            "kv_bytes": 1000,
            "new_tokens": 3,
        }
        for method, values in scores.items()
        for budget in ((None,) if method == "full" else budgets)
        for example, score in zip(of, values, strict=True)
    ]
    configuration = {
        "model": {"id": "m", "layers": 1, "kv_heads": 1, "head_dim": 8, "weights": "w"},
        "dtype": "float32",
        "tasks": {task: {"version": 1, "metric": "found", "examples": len(of), **(tasks or {})}},
        "methods": sorted(scores),
        "budgets": list(budgets),
        "window": 8,
        "split": "test",
        "seed": 0,
        "max_length": None,
        **settings,
    }
    return Submission(name, {"configuration": configuration}, records)


def test_methods_of_two_submissions_meet_on_their_common_examples() -> None:
    mine = submission("mine", {"snapkv": [0, 0, 1, 1, 0]}, examples=[1, 2, 3, 4, 5])
    theirs = submission("theirs", {"snapkv": [1, 1, 1, 0], "cokv": [1, 1, 1, 1]}, examples=[3, 4, 5, 6])
    (board,) = make_boards([mine, theirs])
    assert [(each.submissions, each.examples) for each in board.sets] == [(("mine",), 5), (("theirs",), 4)]
    assert board.entries == (("mine", "snapkv"), ("theirs", "snapkv"), ("theirs", "cokv"))
    pairs = board.pairs.set_index(["one", "other"])
    assert pairs.loc[[(0, 1), (0, 2), (1, 2)], "n"].tolist() == [3, 3, 4]
    # Of examples 3, 4 and 5 mine finds two; theirs find all of them.
    assert pairs.loc[(0, 1), "difference"] == pytest.approx(-100 / 3)
    assert pairs.loc[(1, 2), "difference"] == -25
    shown = board.scores.set_index(["submission", "method"])
    assert shown.loc[("mine", "snapkv"), ["n", "score"]].tolist() == [5, 40]
    assert shown.loc[("theirs", "cokv"), ["n", "score"]].tolist() == [4, 100]


@pytest.mark.parametrize(
    "other",
    [
        {"tasks": {"version": 2}},
        {"tasks": {"metric": "qa_f1"}},
        {"dtype": "bfloat16"},
        {"question_agnostic": True},
        {"max_length": 2000},
        {"model": {"id": "m", "layers": 1, "kv_heads": 1, "head_dim": 8, "weights": "other"}},
        {"reading": {"tokenizer": "other", "cut": {}}},
        {"examples": [10, 11, 12]},
        {"task": "ruler/vt"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_differs_in_how_it_was_measured_is_on_boards_of_its_own(other: dict[str, Any]) -> None:
    mine = submission("mine", {"snapkv": [0, 1, 1]})
    assert len(make_boards([mine, submission("theirs", {"snapkv": [1, 1, 0]})])) == 1
    boards = make_boards([mine, submission("theirs", {"snapkv": [1, 1, 0]}, **other)])
    assert len(boards) == 2
    assert all(board.pairs.empty for board in boards)


def test_equal_ids_with_other_answers_are_on_boards_of_their_own() -> None:
    mine, same, edited = (
        submission(name, {"snapkv": [0, 1, 1]}, tasks={"ids": "i", "contents": contents})
        for name, contents in (("mine", "a"), ("same", "a"), ("edited", "b"))
    )
    assert len(make_boards([mine, same])) == 1
    boards = make_boards([mine, same, edited])
    assert sorted(sorted({name for name, _ in board.entries}) for board in boards) == [["edited"], ["mine", "same"]]
    part = submission("part", {"snapkv": [0, 1]}, tasks={"ids": "of two", "contents": "c"})
    earlier = submission("earlier", {"snapkv": [0, 1, 1]}, tasks={"ids": "i"})
    assert len(make_boards([mine, part, earlier])) == 1


def test_a_model_has_one_board_under_several_names() -> None:
    named = {"model": {"id": "owner/m", "layers": 1, "kv_heads": 1, "head_dim": 8, "weights": "w"}}
    several = [submission("mine", {"snapkv": [0, 1]}), submission("theirs", {"snapkv": [1, 1]}, **named)]
    (board,) = make_boards(several)
    assert len(board.pairs) == 1
    for each in several:
        each.configuration["model"]["weights"] = None
    assert len(make_boards(several)) == 2


def test_submissions_meet_by_way_of_a_third() -> None:
    first, last = (submission(name, {"snapkv": [0, 1]}, examples=of) for name, of in (("a", [1, 2]), ("c", [3, 4])))
    assert len(make_boards([first, last])) == 2
    (board,) = make_boards([first, last, submission("b", {"snapkv": [0, 1]}, examples=[2, 3])])
    assert [each.submissions for each in board.sets] == [("a",), ("c",), ("b",)]
    assert board.pairs[["one", "other", "n"]].to_numpy().tolist() == [[0, 2, 1], [1, 2, 1]]


def test_the_full_cache_and_ceilings_are_shown_and_not_compared() -> None:
    (board,) = make_boards([submission("mine", {"snapkv": [0, 1], "oracle": [1, 1], "cokv": [1, 0]})])
    assert set(board.scores["method"]) == {"full", "snapkv", "oracle", "cokv"}
    assert [method for _, method in board.entries] == ["snapkv", "cokv"]
    assert len(board.pairs) == 1


def test_unequal_totals_are_not_compared() -> None:
    several = [submission("mine", {"snapkv": [0, 1]}), submission("theirs", {"snapkv": [1, 1]}, kept=65)]
    (board,) = make_boards(several)
    (row,) = board.pairs.to_dict("records")
    assert row["n"] == 2
    assert pd.isna(row["difference"])
    assert pd.isna(row["within_noise"])


def test_the_mean_is_over_budgets_that_all_rows_have() -> None:
    chance = np.random.default_rng(0)
    wide = submission(
        "wide", {"snapkv": list(chance.random(30)), "cokv": list(chance.random(30))}, budgets=(32, 64, 128)
    )
    few = submission("few", {"snapkv": list(chance.random(30))}, budgets=(64, 128, "25%"))
    (board,) = make_boards([wide, few])
    assert board.budgets == (64, 128)
    assert board.sections == [MEAN, "32", "64", "128", "25%"]
    counts = board.pairs["section"].value_counts().to_dict()
    assert counts == {MEAN: 3, "64": 3, "128": 3, "32": 1}
    (alone,) = make_boards([submission("one", {"snapkv": [0, 1], "cokv": [1, 1]})])
    assert alone.sections == ["64"]


def test_a_lone_run_has_the_numbers_of_its_tables() -> None:
    """Scores are those of scores.csv; differences and intervals those of comparisons.csv; p is corrected for more."""
    run = read_finished(RESULTS / "smollm2-135m" / "papers")
    one = Submission("papers", run.description, run.records)
    (board,) = make_boards([one])
    stored = pd.read_csv(
        RESULTS / "smollm2-135m" / "papers" / "scores.csv", dtype={"budget": str}, keep_default_na=False
    )
    stored = stored.rename(columns={"budget": "section"})
    joined = stored.merge(board.scores, on=["method", "section"], suffixes=("", "_board"))
    assert len(joined) == len(stored)
    for column in ("n", "score", "ci_low", "ci_high", "kept_per_head", "kv_bytes"):
        np.testing.assert_allclose(joined[column], joined[f"{column}_board"], atol=1e-4, err_msg=column)
    compared = comparisons_table(one.frame, one.configuration, "snapkv")
    place = board.entries.index(("papers", "snapkv"))
    for row in compared.to_dict("records"):
        section = MEAN if pd.isna(row["budget"]) else str(row["budget"])
        theirs = board.entries.index(("papers", row["method"]))
        at = board.pairs[board.pairs["section"] == section].set_index(["one", "other"])
        sign = 1 if theirs < place else -1
        found = at.loc[(min(place, theirs), max(place, theirs))]
        ends = (found["ci_low"], found["ci_high"]) if sign > 0 else (-found["ci_high"], -found["ci_low"])
        told = [sign * found["difference"], *ends]
        assert told == pytest.approx([row["difference"], row["ci_low"], row["ci_high"]]), row
        assert found["n"] == row["n"]
        assert found["p_adjusted"] >= row["p_adjusted"] - 0.005


def test_the_only_pair_has_the_test_of_a_single_comparison() -> None:
    chance = np.random.default_rng(3)
    scores = {"snapkv": list(chance.integers(0, 2, 18).astype(float)), "cokv": list(chance.integers(0, 2, 18) * 1.0)}
    one = submission("one", scores)
    (board,) = make_boards([one])
    table = comparisons_table(one.frame, one.configuration, "snapkv")
    assert board.pairs["p_adjusted"].tolist() == table["p_adjusted"].tolist()


def test_p_values_are_corrected_for_all_pairs() -> None:
    """Of twenty alike methods the best and the worst differ by chance, and nothing is found."""
    chance = np.random.default_rng(1)
    base = chance.random(40)
    names = ["snapkv", *(f"snapkv:kernel={2 * k + 3}" for k in range(9))]
    several = [
        submission(name, {each: list(base + 0.1 * chance.normal(size=40)) for each in names}) for name in ("a", "b")
    ]
    (board,) = make_boards(several)
    assert len(board.pairs) == 20 * 19 / 2
    assert board.pairs["within_noise"].all()
    assert board.pairs["difference"].abs().max() > 4


def test_few_patterns_at_a_time_give_the_same_test(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = np.random.default_rng(2).normal(size=(30, 5))
    whole = family_test(shares, np.full(5, 30), 0, drawn_at_most=2**15)
    monkeypatch.setattr(signflips, "_AT_ONCE", 2**10)
    parts = family_test(shares, np.full(5, 30), 0, drawn_at_most=2**15)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)
