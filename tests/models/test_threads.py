"""How many threads a model gets: asked for, in the environment, or timed; never by a timing of this machine's load."""

from pathlib import Path

import pytest
import torch

from cokv_bench.models import threads
from cokv_bench.models.spec import ModelSpec


def test_what_is_asked_for_comes_before_the_environment_and_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "timed", lambda: pytest.fail("timed"))
    monkeypatch.setenv(threads.VARIABLE, "3")
    assert threads.choose(2).count == 2
    assert threads.choose() == threads.Threads(3, "OMP_NUM_THREADS is set")
    monkeypatch.setenv(threads.VARIABLE, "4,2")
    assert threads.choose().count == 4 == threads.number_set()


@pytest.mark.parametrize("value", ["", "0", "all"])
def test_without_a_number_in_the_environment_the_fastest_is_taken(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(threads.VARIABLE, value)
    assert threads.number_set() is None
    monkeypatch.setattr(threads, "timed", lambda: {2: 0.6, 1: 0.01})
    assert threads.choose().told == (
        "1 CPU thread (timed just now, 1: 10 ms, 2: 600 ms; --threads sets another number)"
    )


@pytest.mark.parametrize(
    ("seconds", "count"),
    [
        ({1: 0.02, 2: 0.011}, 2),
        ({1: 0.02, 2: 0.022}, 2),  # Within what timings vary, so the number stays the same from call to call.
        ({1: 0.02, 2: 0.026}, 1),
        ({1: 0.08, 2: 0.04, 4: 0.03, 8: 0.5}, 4),
        ({1: 0.0}, 1),
    ],
)
def test_fewer_threads_than_usual_are_taken_only_where_they_are_clearly_faster(
    seconds: dict[int, float], count: int
) -> None:
    assert threads.fastest(seconds) == count


def test_the_timing_leaves_the_number_as_it_was() -> None:
    usual = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert list(threads.timed()) == [3, 2, 1]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(usual)


def test_threads_are_no_argument_of_the_model(texty_folder: Path) -> None:
    model = ModelSpec(str(texty_folder), device="cpu", threads=1).load()
    assert model.device.type == "cpu"
