"""The journal of a step: what a stopped process has measured of it counts, and nothing else does."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from cokv_bench.game.head_game import Game, make_game
from cokv_bench.game.ledger import LedgerHeader
from cokv_bench.game.profile import profile
from cokv_bench.game.step_journal import StepJournal, clear_mark, is_marked, mark_end
from cokv_bench.game.stopping import Stopping
from cokv_bench.kvcache import Prompt, Selection
from cokv_bench.models import Model
from cokv_bench.tasks.registry import TaskOptions, resolve

HEADER = LedgerHeader(
    model={"id": "toy"}, tasks=("needle",), window=8, utility="loglik", seed=0, examples=("a", "b"), players=(2, 3)
)


def written(folder: Path) -> Path:
    with StepJournal.open(folder, HEADER, 0, 3) as journal:
        journal.append(0, [0.1, -1e-300, 3.0])
        journal.append(1, [1.0, 2.0, 1 / 3])
    return folder / "step.jsonl"


def test_columns_are_read_again_exactly(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes() + b'{"example": 2, "util')  # torn by a crash
    with StepJournal.open(tmp_path, HEADER, 0, 3) as journal:
        assert journal.columns == {0: [0.1, -1e-300, 3.0], 1: [1.0, 2.0, 1 / 3]}
        journal.append(2, [0.0, 0.0, 0.0])
    with StepJournal.open(tmp_path, HEADER, 0, 3) as journal:
        assert sorted(journal.columns) == [0, 1, 2]


def test_the_end_of_sampling_is_marked_for_its_ledger_and_rows_alone(tmp_path: Path) -> None:
    path = written(tmp_path)
    other = LedgerHeader(**{**vars(HEADER), "seed": 1})
    assert not is_marked(tmp_path, HEADER, 3)
    clear_mark(tmp_path, HEADER, 3)
    assert path.exists(), "the columns of a step went with a mark that was not there"
    mark_end(tmp_path, HEADER, 3)
    assert is_marked(tmp_path, HEADER, 3)
    assert not is_marked(tmp_path, HEADER, 4)
    assert not is_marked(tmp_path, other, 3)
    path.write_bytes(path.read_bytes()[:-1])
    assert not is_marked(tmp_path, HEADER, 3), "a torn mark counts"
    mark_end(tmp_path, HEADER, 3)
    clear_mark(tmp_path, HEADER, 3)
    clear_mark(tmp_path, HEADER, 3)
    assert not path.exists()


@pytest.mark.parametrize(
    ("start", "stop", "seed"),
    [(0, 4, 0), (3, 6, 0), (0, 3, 1)],
    ids=["longer step", "another step", "another ledger"],
)
def test_what_another_step_has_left_does_not_count(tmp_path: Path, start: int, stop: int, seed: int) -> None:
    written(tmp_path)
    header = LedgerHeader(**{**vars(HEADER), "seed": seed})
    with StepJournal.open(tmp_path, header, start, stop) as journal:
        assert journal.columns == {}
    with StepJournal.open(tmp_path, HEADER, 0, 3) as journal:
        assert journal.columns == {}


@pytest.mark.parametrize(
    "line", [b"garbage", b'{"example": 2}', b'{"example": 2, "utilities": [1.0]}', b'{"example": 2, "utilities": 3}']
)
def test_a_damaged_journal_is_measured_again(tmp_path: Path, line: bytes) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes() + line + b"\n")
    with StepJournal.open(tmp_path, HEADER, 0, 3) as journal:
        assert journal.columns == {}


def test_a_stopped_step_measures_only_the_examples_it_lacks(
    texty: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def game() -> Game:
        return make_game(texty, resolve(["needle"], texty, TaskOptions(lengths=(400,), examples=3)), "loglik", window=8)

    measured: list[int] = []
    column = Game.column

    def stopping(self: Game, index: int, select: Callable[[Prompt], Sequence[Selection]]) -> list[float]:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(index)
        return column(self, index, select)

    monkeypatch.setattr(Game, "column", stopping)
    with pytest.raises(KeyboardInterrupt):
        profile(game(), tmp_path / "p", estimator="ssv", seed=0, stopping=Stopping(samples=8))
    monkeypatch.setattr(Game, "column", lambda *arguments: measured.append(arguments[1]) or column(*arguments))
    profile(game(), tmp_path / "p", estimator="ssv", seed=0, stopping=Stopping(samples=8))
    assert measured[:3] == [0, 1, 2]
    monkeypatch.setattr(Game, "column", column)
    profile(game(), tmp_path / "whole", estimator="ssv", seed=0, stopping=Stopping(samples=8))
    assert (tmp_path / "p/ledger.jsonl").read_bytes() == (tmp_path / "whole/ledger.jsonl").read_bytes()
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["ledger.jsonl", "values.json"]


def test_a_time_limit_is_not_spent_twice_by_a_profile_that_died_writing_head_values(
    texty: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    game = make_game(texty, resolve(["needle"], texty, TaskOptions(lengths=(400,), examples=1)), "loglik", window=8)

    def run(**stopping: float) -> str:
        values = profile(game, tmp_path, estimator="ssv", seed=0, stopping=Stopping(**stopping))
        return values.status["stopped_by"]

    def rows() -> int:
        return len((tmp_path / "ledger.jsonl").read_bytes().splitlines()) - 1

    def die(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["cokv_bench.game.profile"], "alpha_curve", die)
        with pytest.raises(KeyboardInterrupt):
            run(seconds=1e-6)
    sampled = rows()
    # Other criteria count as ever.
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["cokv_bench.game.profile"], "alpha_curve", die)
        with pytest.raises(KeyboardInterrupt):
            run(samples=sampled)
    assert rows() == 2 * sampled
    assert run(seconds=3600) == "time limit"
    assert rows() == 2 * sampled
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger.jsonl", "values.json"]
