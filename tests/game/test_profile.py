"""Profiling a tiny model: each utility is what a separate decode gives, and a stopped profile goes on."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cokv_bench.budgets import HeadValues
from cokv_bench.errors import LONGEST, RequestError
from cokv_bench.game import Ledger
from cokv_bench.game.curves import alpha_curve
from cokv_bench.game.head_game import Game, make_game
from cokv_bench.game.profile import _without, default_folder, profile
from cokv_bench.game.stopping import Stopping
from cokv_bench.kvcache import Selection, decode, prefill
from cokv_bench.models import Model, encode_answer
from cokv_bench.tasks.families import TaskFamily
from cokv_bench.tasks.prompts import encode_example
from cokv_bench.tasks.registry import TaskOptions, resolve

WINDOW = 8
LONGBENCH = (
    "narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique", "gov_report", "qmsum", "multi_news",
    "trec", "triviaqa", "samsum", "passage_count", "passage_retrieval_en", "lcc", "repobench-p",
)  # fmt: skip


def game_for(model: Model, utility: str = "loglik", tasks: Sequence[str] = ("needle",)) -> Game:
    resolved = resolve(tasks, model, TaskOptions(lengths=(500,), examples=3))
    return make_game(model, resolved, utility, window=WINDOW)


def test_utilities_are_those_of_coalitions_decoded_one_by_one(texty: Model, tmp_path: Path) -> None:
    game = game_for(texty)
    profile(game, tmp_path, estimator="ssv", stopping=Stopping(samples=6), seed=3)
    ledger = Ledger.read(tmp_path / "ledger.jsonl")
    for members, utilities in zip(ledger.coalitions(), ledger.utilities(), strict=True):
        for (_, example), utility in zip(game.rows, utilities, strict=True):
            prompt = prefill(texty, encode_example(texty, example), window=WINDOW)
            inside = members.reshape(texty.layers, texty.kv_heads)
            choice = Selection.from_coalition(inside, prompt.tokens, WINDOW)
            answer = encode_answer(texty, example.prompt, example.answers[0], chat=True)
            alone = decode(texty, prompt, [choice], teacher=answer, storage="ragged")[0].logprobs
            assert alone is not None
            # The first token depends on the prefill alone and does not count.
            assert utility == pytest.approx(float(alone[1:].mean()), abs=1e-4)


def test_the_metric_utility_is_the_score_of_the_greedy_answer(texty: Model) -> None:
    game = game_for(texty, "metric")
    everybody = np.ones((1, game.players), dtype=bool)
    for (task, example), utility in zip(game.rows, game.measure(game.coalitions(everybody))[0], strict=True):
        prompt = prefill(texty, encode_example(texty, example), window=WINDOW)
        full = Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)
        answer = decode(texty, prompt, [full], max_new_tokens=example.max_new_tokens)[0]
        assert utility == task.score(example, answer.text)["score"]


def test_a_metric_that_gives_no_share_is_named(texty: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    game = game_for(texty, "metric")
    task = game.rows[0][0]
    monkeypatch.setattr(type(task), "score", lambda *_: {"score": 85.0})
    everybody = np.ones((1, game.players), dtype=bool)
    with pytest.raises(RequestError, match=rf"'{task.metric}' gives 85.0 as 'score' .* a number from 0 to 1"):
        game.measure(game.coalitions(everybody))


@pytest.mark.parametrize("estimator", ["ssv", "ridge"])
def test_a_profile_that_is_extended_equals_one_that_never_stopped(texty: Model, tmp_path: Path, estimator: str) -> None:
    whole = profile(game_for(texty), tmp_path / "whole", estimator=estimator, stopping=Stopping(samples=20), seed=1)
    profile(game_for(texty), tmp_path / "parts", estimator=estimator, stopping=Stopping(samples=7), seed=1)
    path = tmp_path / "parts" / "ledger.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    parts = profile(game_for(texty), tmp_path / "parts", estimator=estimator, stopping=Stopping(samples=20), seed=1)
    np.testing.assert_allclose(parts.values, whole.values, atol=1e-4)
    np.testing.assert_allclose(parts.standard_errors, whole.standard_errors, atol=1e-4)
    assert parts.examples == whole.examples
    assert len(Ledger.read(path).done) == 40


@pytest.mark.parametrize("missing", [0, 5, 11])
def test_a_ledger_that_lacks_a_coalition_is_damaged(texty: Model, tmp_path: Path, missing: int) -> None:
    asked = {"estimator": "ssv", "stopping": Stopping(samples=7), "seed": 1}
    whole = profile(game_for(texty), tmp_path, **asked)
    path = tmp_path / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: missing + 1] + lines[missing + 2 :]))
    (tmp_path / "values.json").unlink()
    with pytest.raises(RequestError, match=rf"lacks coalition {missing} and has later ones; the file is damaged"):
        profile(game_for(texty), tmp_path, **asked)
    # What the refusal advises.
    path.write_bytes(b"".join(lines[: missing + 1]))
    assert np.array_equal(profile(game_for(texty), tmp_path, **asked).values, whole.values)


def test_a_default_folder_has_a_name_that_can_be_made(texty: Model, tmp_path: Path) -> None:
    every = [f"longbench/{name}" for name in LONGBENCH]
    assert default_folder(texty, every[:2]).name == "longbench-narrativeqa+longbench-qasper"
    assert default_folder(texty, ["a" * 255]).name == "a" * 255
    assert default_folder(texty, ["a" * 248], "-search").name == "a" * 248 + "-search"
    names = set()
    for tasks, ending in (
        (every, ""),
        (every, "-search"),
        (every[::-1], ""),
        (["é" * 300], ""),
        (["a" + "é" * 300], ""),
    ):
        folder = tmp_path / default_folder(texty, tasks, ending)
        folder.mkdir(parents=True)
        assert folder.name.endswith(ending)
        assert 240 < len(folder.name.encode()) <= 255
        names.add(folder.name)
    assert len(names) == 5


def test_each_example_is_prefilled_once(texty: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    module = sys.modules["cokv_bench.game.head_game"]
    monkeypatch.setattr(module, "prefill", lambda *a, **k: calls.append(1) or prefill(*a, **k))
    profile(game_for(texty), tmp_path, estimator="ridge", stopping=Stopping(samples=80), seed=0)
    assert len(calls) == 3


def test_alpha_is_the_best_of_its_curve_on_the_profile_examples(texty: Model, tmp_path: Path) -> None:
    game = game_for(texty)
    values = profile(game, tmp_path, estimator="ridge", stopping=Stopping(samples=20), seed=0)
    assert set(values.alphas) == {32, 64, 128, 256}
    assert alpha_curve(game, values.values) == values.alphas
    for budget, curve in values.alphas.items():
        assert curve[values.alpha(budget)] == max(curve.values())


def test_a_budget_is_judged_on_the_prompts_that_are_longer_than_it(texty: Model) -> None:
    game = make_game(texty, resolve(["needle"], texty, TaskOptions(lengths=(300, 600), examples=2)), "loglik", window=8)
    values = np.arange(6.0).reshape(texty.layers, texty.kv_heads)
    lengths = [game.prompt_tokens(index) for index in game.indices()]
    longer = [index for index, tokens in enumerate(lengths) if tokens > 400]
    assert 64 < min(lengths) < 400 < max(lengths)
    assert 0 < len(longer) < len(lengths)
    curve = alpha_curve(game, values, budgets=[64, 400, 2000])
    assert set(curve) == {64, 400}
    alone = {**alpha_curve(game, values, budgets=[64]), **alpha_curve(game, values, budgets=[400], indices=longer)}
    for budget, utilities in alone.items():
        assert curve[budget] == pytest.approx(utilities, abs=1e-4)
    # Alpha is chosen even where the shortest prompt holds no budget of the curve at all.
    assert alpha_curve(game, values, budgets=[400]).keys() == {400}


def test_a_window_as_long_as_every_prompt_is_refused(texty: Model, tmp_path: Path) -> None:
    tasks = resolve(["needle", "ruler/niah_single_1"], texty, TaskOptions(lengths=(500,), examples=2))
    longest = max(len(encode_example(texty, example)) for task in tasks for example in task.examples("profile"))
    asked = {"estimator": "ridge", "seed": 0, "stopping": Stopping(samples=20)}
    with pytest.raises(RequestError, match=rf"the window of {longest} tokens \(the longest has {longest}\)") as refused:
        profile(make_game(texty, tasks, "loglik", window=longest), tmp_path, **asked)
    assert len(str(refused.value)) <= LONGEST
    assert not list(tmp_path.iterdir())
    # Nor may all that is left without a family be that short.
    shorter = min(tasks, key=lambda task: max(len(encode_example(texty, each)) for each in task.examples("profile")))
    other = next(task for task in tasks if task is not shorter)
    window = max(len(encode_example(texty, example)) for example in shorter.examples("profile"))
    assert window < longest
    with pytest.raises(RequestError, match="is longer than the window"):
        profile(
            make_game(texty, tasks, "loglik", window=window),
            tmp_path,
            left_out=[TaskFamily("a", (other.name,))],
            **asked,
        )
    assert not list(tmp_path.iterdir())


def test_head_values_without_a_family_are_those_of_a_profile_of_the_other_tasks(
    texty: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefilled: list[int] = []
    module = sys.modules["cokv_bench.game.head_game"]
    monkeypatch.setattr(module, "prefill", lambda *a, **k: prefilled.append(1) or prefill(*a, **k))
    needle, hidden = "needle", "ruler/niah_single_1"
    families = [TaskFamily.read(each) for each in (needle, f"other={hidden}")]
    asked = {"estimator": "ridge", "seed": 1, "stopping": Stopping(samples=20)}

    def profile_both() -> HeadValues:
        return profile(game_for(texty, tasks=(needle, hidden)), tmp_path / "both", left_out=families, **asked)

    def written() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (tmp_path / "both").rglob("*.*")}

    both = profile_both()
    assert len(prefilled) == 6
    assert both.tasks == (needle, hidden)
    for left_out, task in (("needle", hidden), ("other", needle)):
        alone = profile(game_for(texty, tasks=(task,)), tmp_path / task, **asked)
        without = HeadValues.load(tmp_path / "both" / f"without-{left_out}" / "values.json")
        np.testing.assert_allclose(without.values, alone.values, atol=1e-4)
        np.testing.assert_allclose(without.standard_errors, alone.standard_errors, atol=1e-4)
        assert not np.allclose(without.values, both.values, atol=1e-2)
        for name in ("tasks", "examples", "documents", "samples", "seed", "estimator", "utility", "window", "model"):
            assert getattr(without, name) == getattr(alone, name), name
        assert without.status == pytest.approx(alone.status, abs=1e-4)
        assert without.alphas.keys() == alone.alphas.keys()
        for budget, curve in alone.alphas.items():
            assert without.alphas[budget] == pytest.approx(curve, abs=1e-3)
        assert without.ledger_sha256 == both.ledger_sha256
    # The same call has nothing to measure.
    before = written()
    assert len(before) == 4
    monkeypatch.setattr(Game, "column", lambda *arguments: pytest.fail("an example is measured again"))
    profile_both()
    assert written() == before


def test_a_family_of_the_same_name_has_a_curve_of_its_own(texty: Model, tmp_path: Path) -> None:
    game, asked = game_for(texty, tasks=("needle", "ruler/niah_single_1")), {"estimator": "ridge", "seed": 1}
    for task in ("needle", "ruler"):
        left_out = [TaskFamily("some", (task,))]
        profile(game, tmp_path, left_out=left_out, stopping=Stopping(samples=20), **asked)
    values = HeadValues.load(tmp_path / "without-some" / "values.json")
    assert values.alphas == alpha_curve(game, values.values, indices=[0, 1, 2])


def test_a_profile_goes_on_with_its_own_template_alone(texty: Model, worded: Model, tmp_path: Path) -> None:
    profile(game_for(texty), tmp_path, estimator="ssv", stopping=Stopping(samples=6), seed=0)
    with pytest.raises(RequestError, match=r"other settings: config.reading.chat_template is .* there and .* here"):
        profile(game_for(worded), tmp_path, estimator="ssv", stopping=Stopping(samples=6), seed=0)


def test_bad_requests(texty: Model, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="at least one pair"):
        profile(game_for(texty), tmp_path, estimator="ssv", stopping=Stopping(samples=0), seed=0)
    with pytest.raises(RequestError, match="did you mean ridge"):
        profile(game_for(texty), tmp_path, estimator="rigde", stopping=Stopping(samples=1), seed=0)


def test_what_is_left_out_takes_its_documents_along() -> None:
    rows = [
        (SimpleNamespace(name=task), SimpleNamespace(document=document))
        for task, document in (("a", "x"), ("b", "x"), ("b", "y"), ("c", "z"))
    ]
    game: Any = SimpleNamespace(rows=rows)
    plan: Any = SimpleNamespace(pilot_rows=0)
    assert _without(game, plan, "slices", TaskFamily("a", ("a",))) == [2, 3]
    with pytest.raises(RequestError, match="no example of this profile is left"):
        _without(game, plan, "slices", TaskFamily("all", ("a", "b", "c")))
