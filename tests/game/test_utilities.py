"""Utilities of coalitions: what each measures, and profiling without labels."""

import gc
import json
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.game.head_game import Game, make_game
from cokv_bench.game.profile import profile
from cokv_bench.game.stopping import Stopping
from cokv_bench.game.utilities import UTILITIES, Case, PromptUtility, get_utility, register_utility
from cokv_bench.game.utilities.acceptance import accepted
from cokv_bench.kvcache import Prompt, Selection, decode
from cokv_bench.models import Model
from cokv_bench.runs.request import plan_request
from cokv_bench.tasks.registry import TaskOptions, resolve
from tests.requests import request_of


def unlabelled(folder: Path, rows: int = 40) -> str:
    path = folder / "rows.jsonl"
    texts = [{"context": f"{number} ships lie in the harbour. " * 9, "input": "How many?"} for number in range(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in texts), encoding="utf-8")
    return f"jsonl:{path}"


def game_on(model: Model, task: str, utility: str) -> Game:
    return make_game(model, resolve([task], model, TaskOptions()), utility, window=8)


def full(prompt: Prompt) -> Selection:
    return Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)


def on_own_answer(model: Model, folder: Path, name: str) -> tuple[list[float], list[torch.Tensor]]:
    """A utility with the full cache and with next to nothing of it, and the own answer's log-probabilities there."""
    game = game_on(model, unlabelled(folder), name)
    task, example = game.rows[0]
    prompt = game.prompts.get(0)
    nobody = Selection.from_coalition([[False] * prompt.kv_heads] * prompt.layers, prompt.tokens, 8)
    choices = [full(prompt), nobody]
    (own,) = decode(model, prompt, choices[:1], max_new_tokens=example.max_new_tokens)
    rows = decode(model, prompt, choices, teacher=own.token_ids)
    measured = game.utility.measure(Case(model, task, example, prompt), choices)
    return measured, [row.logprobs[1:] for row in rows if row.logprobs is not None]


def test_agreement_is_the_log_probability_of_the_full_caches_own_answer(texty: Model, tmp_path: Path) -> None:
    measured, logprobs = on_own_answer(texty, tmp_path, "agreement")
    assert measured == pytest.approx([float(each.mean()) for each in logprobs], abs=1e-5)
    # The full cache's own greedy answer is likelier with the full cache than with next to nothing of it.
    assert measured[0] > measured[1]


def test_acceptance_is_what_sampling_repeats_of_the_own_answer(texty: Model, tmp_path: Path) -> None:
    measured, logprobs = on_own_answer(texty, tmp_path, "acceptance")
    dice = np.random.default_rng(0)
    for utility, each in zip(measured, logprobs, strict=True):
        said = dice.random((20_000, len(each))) < each.exp().numpy()
        before_another = np.cumprod(said, axis=1).mean(axis=1)
        noise = before_another.std() / len(before_another) ** 0.5
        assert np.exp(utility) == pytest.approx(before_another.mean(), abs=5 * noise)
    assert 0 > measured[0] > measured[1]


def test_acceptance_tells_an_answer_that_opens_otherwise_from_one_that_loses_as_much_in_small_pieces() -> None:
    opens = torch.tensor([-3.0, *[-0.1] * 9])
    pieces = torch.full((10,), float(opens.mean()))
    assert accepted(opens) < accepted(pieces) - 1
    assert float(accepted(torch.zeros(7))) == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(accepted(torch.full((200,), -50.0)))


@pytest.mark.parametrize("utility", ["agreement", "acceptance"])
def test_an_answer_that_ends_at_once_cannot_be_changed(texty: Model, tmp_path: Path, utility: str) -> None:
    game = game_on(texty, unlabelled(tmp_path), utility)
    task, example = game.rows[0]
    prompt = game.prompts.get(0)
    one = replace(example, max_new_tokens=1)
    assert game.utility.measure(Case(texty, task, one, prompt), [full(prompt)] * 3) == [0.0] * 3


def test_a_profile_needs_no_labels(texty: Model, tmp_path: Path) -> None:
    game = game_on(texty, unlabelled(tmp_path), "agreement")
    values = profile(game, tmp_path / "p", estimator="ridge", seed=0, stopping=Stopping(samples=10))
    assert values.utility == "agreement"
    assert values.values.std() > 0


@pytest.mark.parametrize("utility", ["loglik", "metric"])
def test_other_utilities_name_the_row_without_an_answer(texty: Model, tmp_path: Path, utility: str) -> None:
    with pytest.raises(RequestError, match=f"no reference answer, which the utility '{utility}' .*--utility agreement"):
        game_on(texty, unlabelled(tmp_path), utility)


def test_rows_without_answers_are_measured_by_what_needs_none(texty: Model, tmp_path: Path) -> None:
    for utility in ("score", "loglik"):
        request = request_of([unlabelled(tmp_path)], ["full"], [64], utility=utility)
        with pytest.raises(RequestError, match="have no answers to score against"):
            plan_request(request, texty)
    # What needs no labels is measured without them.
    assert plan_request(request_of([unlabelled(tmp_path)], ["full"], [64], utility="agreement"), texty).answers > 0


def test_a_utility_of_ones_own() -> None:
    def kept(case: Case, selections: Sequence[Selection]) -> list[float]:
        return [float(selection.total) for selection in selections]

    mine = PromptUtility("kept", "tokens kept", kept, needs_answers=False)
    register_utility(mine)
    try:
        assert get_utility("kept") is mine
        with pytest.raises(RequestError, match="'kept' already"):
            register_utility(mine)
    finally:
        del UTILITIES["kept"]


def test_a_game_ends_with_its_last_user(texty: Model, tmp_path: Path) -> None:
    game = game_on(texty, unlabelled(tmp_path, rows=8), "agreement")
    game.measure(lambda prompt: [full(prompt)])
    gone = weakref.ref(game)
    gc.disable()
    try:
        del game
        assert gone() is None
    finally:
        gc.enable()
