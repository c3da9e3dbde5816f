"""When sampling stops, and what is written down about it."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cokv_bench.budgets import HeadValues
from cokv_bench.errors import RequestError
from cokv_bench.game import Ledger
from cokv_bench.game.head_game import Game, make_game
from cokv_bench.game.profile import STEP, _end_of_step, profile
from cokv_bench.game.stability import Stability
from cokv_bench.game.stopping import DEFAULT_SAMPLES, Stopping, status
from cokv_bench.game.utilities import Case, PromptUtility
from cokv_bench.models import Model
from cokv_bench.tasks.registry import TaskOptions, resolve

POOR = Stability(rank_correlation=0.3, mean_absolute_difference=0.5, standard_error=0.2, reliability=0.46)
RICH = Stability(rank_correlation=0.9, mean_absolute_difference=0.05, standard_error=0.01, reliability=0.95)
UNKNOWN = Stability(math.nan, math.nan, math.inf, math.nan)


@pytest.mark.parametrize(
    ("criterion", "name"),
    [
        ({"standard_error": 0.1}, "standard error"),
        ({"rank_correlation": 0.8}, "rank correlation"),
        ({"published": True}, "mean absolute difference"),
    ],
)
def test_a_target_stops_once_it_is_reached(criterion: dict[str, Any], name: str) -> None:
    stopping = Stopping(**criterion)
    assert stopping.rows is None
    assert stopping.met(10**6, 10**6, POOR, players=10) is None
    assert stopping.met(10**6, 10**6, UNKNOWN, players=10) is None
    assert stopping.met(10, 1, RICH, players=10) == name
    # With samples beside it, whichever comes first.
    both = Stopping(samples=50, **criterion)
    assert both.met(98, 0, POOR, players=10) is None
    assert both.met(100, 0, POOR, players=10) == "samples"


def test_the_published_rule_compares_with_one_over_the_heads() -> None:
    stopping = Stopping(published=True)
    assert stopping.met(10, 0, RICH, players=19) == "mean absolute difference"  # 0.05 < 1/19
    assert stopping.met(10, 0, RICH, players=21) is None


def test_time_and_the_default() -> None:
    assert Stopping(seconds=60).met(10, 59.9, RICH, players=10) is None
    assert Stopping(seconds=60).met(10, 60.0, UNKNOWN, players=10) == "time limit"
    assert Stopping().rows == 2 * DEFAULT_SAMPLES
    assert Stopping(seconds=60).rows is None


@pytest.mark.parametrize(
    "wrong",
    [{"samples": 0}, {"seconds": 0.0}, {"standard_error": -1.0}, {"rank_correlation": 1.0}, {"rank_correlation": 0.0}],
)
def test_numbers_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        Stopping(**wrong)


def test_unknown_numbers_are_null() -> None:
    found = status(UNKNOWN, 90, "samples", "slices")
    assert found["rank_correlation"] is None
    assert found["standard_error"] is None
    assert found["published_threshold"] == 1 / 90


@pytest.mark.parametrize("pilot", [0, 100, 256, 700])
@pytest.mark.parametrize("rows", [None, 40, 256, 1000])
def test_steps_cover_all_rows_once_and_never_straddle_the_pilot(pilot: int, rows: int | None) -> None:
    start, ends = 0, []
    while start < (2000 if rows is None else rows):
        stop = _end_of_step(start, pilot, rows)
        assert start < stop <= start + STEP
        assert not start < pilot < stop
        ends.append(stop)
        start = stop
    assert rows is None or ends[-1] == rows
    # A longer run has the same steps, but for the last.
    start = 0
    for stop in ends[:-1]:
        assert _end_of_step(start, pilot, None) == stop
        start = stop


def game_for(model: Model, **options: Any) -> Game:
    tasks = resolve(["needle"], model, TaskOptions(lengths=(400,), examples=2))
    return make_game(model, tasks, "loglik", window=8, **options)


def test_a_profile_stops_at_its_target_and_a_second_call_adds_nothing(texty: Model, tmp_path: Path) -> None:
    game, stopping = game_for(texty), Stopping(rank_correlation=0.5, samples=5000)
    values = profile(game, tmp_path, estimator="ridge", seed=0, stopping=stopping)
    assert values.status["stopped_by"] == "rank correlation"
    assert values.status["rank_correlation"] >= 0.5
    assert values.status["sampling"] == "slices"
    done = len(Ledger.read(tmp_path / "ledger.jsonl").done)
    assert done % STEP == 0
    before = [(tmp_path / name).read_bytes() for name in ("ledger.jsonl", "values.json")]
    profile(game_for(texty), tmp_path, estimator="ridge", seed=0, stopping=stopping)
    assert [(tmp_path / name).read_bytes() for name in ("ledger.jsonl", "values.json")] == before
    assert HeadValues.load(tmp_path / "values.json").status == values.status


def test_any_estimator_reads_a_ledger_that_is_there(texty: Model, tmp_path: Path) -> None:
    first = profile(game_for(texty), tmp_path, estimator="ssv", seed=0, stopping=Stopping(samples=100))
    other = profile(game_for(texty), tmp_path, estimator="cc", seed=0, stopping=Stopping(samples=100))
    assert first.ledger_sha256 == other.ledger_sha256
    assert (first.values != other.values).any()
    with pytest.raises(RequestError, match="permutation"):
        profile(
            game_for(texty),
            tmp_path / "x",
            estimator="permutation",
            sampling="slices",
            seed=0,
            stopping=Stopping(samples=9),
        )
    assert not (tmp_path / "x").exists()


def test_a_ledger_of_something_else_is_refused_with_the_difference(texty: Model, tmp_path: Path) -> None:
    profile(game_for(texty), tmp_path, estimator="ssv", seed=0, stopping=Stopping(samples=4))
    with pytest.raises(RequestError, match=r'config\.sampling is "slices" there and "strata" here'):
        profile(game_for(texty), tmp_path, estimator="cc", sampling="strata", seed=0, stopping=Stopping(samples=4))
    tasks = resolve(["needle"], texty, TaskOptions(lengths=(400,), examples=2))
    for change, told in (({"utility": "metric"}, "utility is"), ({"window": 9}, "window is 8 there and 9 here")):
        game = make_game(texty, tasks, change.get("utility", "loglik"), window=change.get("window", 8))
        with pytest.raises(RequestError, match=told):
            profile(game, tmp_path, estimator="ssv", seed=0, stopping=Stopping(samples=4))
    half = replace(texty, network=copy.deepcopy(texty.network).bfloat16())
    with pytest.raises(RequestError, match=r'config\.dtype is "float32" there and "bfloat16" here'):
        profile(game_for(half), tmp_path, estimator="ssv", seed=0, stopping=Stopping(samples=8))


def test_head_values_that_no_profile_measured_are_not_written_over(texty: Model, tmp_path: Path) -> None:
    path, asked = tmp_path / "values.json", {"estimator": "ssv", "seed": 0, "stopping": Stopping(samples=4)}
    values = profile(game_for(texty), tmp_path, **asked)
    imported = replace(values, ledger_sha256=None)
    for left, told in ((imported, "choose another folder with --out"), (None, "of kind None")):
        path.write_text("{}") if left is None else left.save(path)
        before = path.read_bytes()
        with pytest.raises(RequestError, match=told):
            profile(game_for(texty), tmp_path, **{**asked, "stopping": Stopping(samples=8)})
        assert path.read_bytes() == before
        assert len(Ledger.read(tmp_path / "ledger.jsonl").done) == 8


def test_a_seed_that_no_file_holds_is_refused(texty: Model, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cannot be begun: the field 'seed' is .* a whole number from 0 to 9007"):
        profile(game_for(texty), tmp_path, estimator="ssv", seed=2**53, stopping=Stopping(samples=4))
    profile(game_for(texty), tmp_path, estimator="ssv", seed=2**53 - 1, stopping=Stopping(samples=4))


@pytest.mark.parametrize("gives", [float("nan"), "one number", None])
def test_a_utility_that_gives_no_numbers_is_named(texty: Model, tmp_path: Path, gives: Any) -> None:
    def measure(case: Case, selections: Any) -> Any:
        return [0.5] if gives == "one number" else [gives] * len(selections)

    game = game_for(texty)
    game = replace(game, utility=PromptUtility("odd", "", measure))
    with pytest.raises(RequestError, match="'odd' has no finite number for each of 8 selections of example"):
        profile(game, tmp_path, estimator="ssv", seed=0, stopping=Stopping(samples=4))
    numbers = replace(game, utility=PromptUtility("odd", "", lambda case, choices: np.ones(len(choices), np.float32)))
    assert profile(numbers, tmp_path, estimator="ssv", seed=0, stopping=Stopping(samples=4)).utility == "odd"


def test_spilled_prompts_give_the_same_ledger(texty: Model, tmp_path: Path) -> None:
    tight = game_for(texty, memory_limit=1, spill_folder=tmp_path / "a")
    profile(tight, tmp_path / "a", estimator="ssv", seed=0, stopping=Stopping(samples=20))
    assert tight.prompts.spilled == 2
    profile(game_for(texty), tmp_path / "b", estimator="ssv", seed=0, stopping=Stopping(samples=20))
    one, other = (Ledger.read(tmp_path / name / "ledger.jsonl") for name in "ab")
    np.testing.assert_allclose(one.utilities(), other.utilities(), atol=1e-5)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["ledger.jsonl", "values.json"]


def test_too_few_rows_are_kept_and_said(texty: Model, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"too few .*permutation.* repeat the command with more --samples"):
        profile(game_for(texty), tmp_path, estimator="permutation", seed=0, stopping=Stopping(samples=2))
    assert len(Ledger.read(tmp_path / "ledger.jsonl").done) == 4
    profile(game_for(texty), tmp_path, estimator="permutation", seed=0, stopping=Stopping(samples=12))
