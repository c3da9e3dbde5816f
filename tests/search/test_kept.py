"""Prompts of a search that are kept in a folder: the next search reads them, and finds the same."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.game.utilities import UTILITIES, PromptUtility, register_utility
from cokv_bench.models import Model
from cokv_bench.models.model import Verdict
from cokv_bench.policies.scorers import WindowAttention
from cokv_bench.registries import SCORERS
from cokv_bench.search import SearchExamples
from cokv_bench.search import prompts as module
from cokv_bench.search.examples import Point
from cokv_bench.search.kept import KeptPrompts
from cokv_bench.tasks.prompts import Encoding
from cokv_bench.tasks.registry import TaskOptions, resolve

RANKINGS = ("window:kernel=3", "laq:draft=2", "accumulated")


def made(model: Model, folder: Path | None, rankings: tuple[str, ...] = RANKINGS, **options: Any) -> SearchExamples:
    tasks = resolve(["needle"], model, TaskOptions(lengths=(300,), examples=2))
    known: dict[str, Any] = {"window": 8, "rankings": rankings, "budgets": (24, 40), **options}
    return SearchExamples(model, tasks, known.pop("utilities", ["loglik"]), prompts=folder, **known)


def scores(examples: SearchExamples) -> list[float]:
    model = examples.model
    shares = torch.randn(model.layers, model.kv_heads, generator=torch.Generator().manual_seed(1))
    points = [
        Point(case, budget, ranking)
        for case in range(len(examples.groups))
        for budget in (24, 40)
        for ranking in range(len(examples.rankings))
    ]
    return examples.score(points, [shares] * len(points)) + [examples.full(case) for case in (0, 1)]


@pytest.mark.parametrize("agnostic", [False, True])
def test_kept_prompts_are_not_prefilled_again_and_score_the_same(
    texty: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agnostic: bool
) -> None:
    options = {"encoding": Encoding(question_agnostic=agnostic), "utilities": ["loglik", "agreement"]}
    plain = scores(made(texty, None, **options))
    assert scores(made(texty, tmp_path / "kept", **options)) == plain
    assert len(list((tmp_path / "kept").iterdir())) == 2
    unread = replace(texty, verdict=Verdict())
    with monkeypatch.context() as patch:
        patch.setattr(module, "prefill", None)
        assert scores(made(unread, tmp_path / "kept", **options)) == plain
    assert unread.verdict.lean


def test_another_search_may_write_the_same_prompt_in_another_order_at_the_same_time(
    texty: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = (made(texty, tmp_path, (name,)) for name in ("window:kernel=3", "accumulated"))
    plain = scores(made(texty, None, ("window:kernel=3",)))
    write = KeptPrompts.write

    def late(kept: KeptPrompts, text: Any, ranked: Any) -> None:
        write(kept, text, ranked)
        if kept is mine._prompts._kept:
            other._prompts.get(0 if text["example"] == other.rows[0][1].id else 1)

    monkeypatch.setattr(KeptPrompts, "write", late)
    assert scores(mine) == plain


def test_another_ranking_is_added_and_any_of_them_may_come_first(
    texty: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scores(made(texty, tmp_path, ("window:kernel=3", "laq:draft=2")))
    files = {path.name for path in tmp_path.iterdir()}
    assert scores(made(texty, tmp_path, ("window:kernel=3", "accumulated"))) == scores(
        made(texty, None, ("window:kernel=3", "accumulated"))
    )
    assert {path.name for path in tmp_path.iterdir()} == files
    with monkeypatch.context() as patch:
        patch.setattr(module, "prefill", None)
        assert scores(made(texty, tmp_path, ("window:kernel=3", "laq:draft=2"))) == first
        assert len(scores(made(texty, tmp_path))) == 14
        other = scores(made(texty, tmp_path, ("accumulated", "window:kernel=3")))
    assert other == pytest.approx(scores(made(texty, None, ("accumulated", "window:kernel=3"))), abs=1e-5)
    # In another order, the prompt is kept in that one alone.
    random = scores(made(texty, tmp_path, ("random",)))
    assert scores(made(texty, tmp_path, ("window:kernel=3", "laq:draft=2"))) == first
    assert scores(made(texty, tmp_path, ("random",))) == random
    assert {path.name for path in tmp_path.iterdir()} == files
    scores(made(texty, tmp_path, ("window:kernel=3",), utilities=["agreement"]))
    assert len(list(tmp_path.iterdir())) == 2 * len(files)
    # Another utility of the same answers needs no other prompt.
    with monkeypatch.context() as patch:
        patch.setattr(module, "prefill", None)
        scores(made(texty, tmp_path, ("window:kernel=3",), utilities=["acceptance"]))


def test_an_order_by_other_defaults_is_not_taken_for_this_one(texty: Model, tmp_path: Path) -> None:
    """As a file from before a default changed would be."""
    found = {}
    for kernel in (3, 11):
        SCORERS.add("own", "", partial(WindowAttention, kernel))
        try:
            found[kernel] = scores(made(texty, tmp_path, ("own:observe=8",)))
            assert found[kernel] == scores(made(texty, None, ("own:observe=8",)))
        finally:
            del SCORERS["own"]
    assert found[3] != found[11]


def test_answers_without_a_name_of_their_own_are_told_apart_by_their_utility(texty: Model, tmp_path: Path) -> None:
    own = [partial(lambda ids, case: ids, [5, 6, count]) for count in (7, 8)]
    for number, answer in enumerate(own):
        register_utility(PromptUtility(f"fixed-{number}", "", lambda case, choices: [], answer=answer))
    try:
        for number in range(2):
            examples = made(texty, tmp_path, ("window:kernel=3",), utilities=[f"fixed-{number}"])
            assert scores(examples) == scores(made(texty, None, ("window:kernel=3",), utilities=[f"fixed-{number}"]))
        assert len(list(tmp_path.iterdir())) == 4
    finally:
        for number in range(2):
            del UTILITIES[f"fixed-{number}"]


def test_corrected_answers_and_other_ends_are_not_those_of_a_kept_prompt(texty: Model, tmp_path: Path) -> None:
    first = made(texty, tmp_path, ("window",))
    plain = scores(first)
    task, example = first.rows[0]
    for change in ({"answers": ("quite another",)}, {"stop_at_newline": True}):
        other = made(texty, tmp_path, ("window",))
        other.rows[0] = task, replace(example, **change)
        fresh = made(texty, None, ("window",))
        fresh.rows[0] = other.rows[0]
        files = len(list(tmp_path.iterdir()))
        assert scores(other) == scores(fresh)
        assert len(list(tmp_path.iterdir())) == files + 1
        assert (scores(other) == plain) == ("answers" not in change)


def test_a_damaged_prompt_and_a_folder_that_is_none_are_one_sentence(texty: Model, tmp_path: Path) -> None:
    scores(made(texty, tmp_path))
    path = sorted(tmp_path.iterdir())[0]
    for content in (b"", path.read_bytes()[:-1000]):
        path.write_bytes(content)
        with pytest.raises(RequestError, match="is not a prompt of a search, or it is damaged; delete it"):
            scores(made(texty, tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot be created"):
        made(texty, tmp_path / "file")
