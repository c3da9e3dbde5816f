"""Lines of progress where there is no terminal."""

import io

import pytest
from rich.console import Console

from cokv_bench.cli import progress


def test_the_time_left_is_told_by_the_speed_of_the_units_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    written = io.StringIO()
    with progress.progress_bar(Console(file=written), "Searching", "step") as tell:
        # Steps 0 to 40 were done by an earlier call, and reading takes 1,000 s before the first of this one.
        for clock[0], done in ((0.0, 40), (1000.0, 40), (1030.0, 45), (1060.0, 50)):
            tell(done, 100, "so far")
    assert written.getvalue().splitlines() == [
        "Searching: 40 of 100 steps after 17 min (so far)",
        "Searching: 45 of 100 steps after 17 min, 6.0 s per step, about 6 min left (so far)",
        "Searching: 50 of 100 steps after 18 min, 6.0 s per step, about 5 min left (so far)",
    ]


@pytest.mark.parametrize(
    ("seconds", "done", "told"),
    [
        (30.0, 150, "after 30 s, 5.0 per second, about 10 s left"),
        (24.0, 2, "after 24 s, 12 s per pass, about 40 min left"),
        (600.0, 1, "after 10 min, 10 min per pass, about 33.2 h left"),
    ],
)
def test_no_rate_is_a_number_below_one(monkeypatch: pytest.MonkeyPatch, seconds: float, done: int, told: str) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    written = io.StringIO()
    with progress.progress_bar(Console(file=written), "Tuning", "pass") as tell:
        tell(0, 200, "needle")
        clock[0] = seconds
        tell(done, 200, "needle")
    assert written.getvalue() == f"Tuning: {done} of 200 passes {told} (needle)\n"


def test_the_end_is_told_at_once_and_what_follows_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    written = io.StringIO()
    with progress.progress_bar(Console(file=written), "Profiling", "evaluation") as tell:
        tell(0, 4, "game")
        for clock[0], note in (
            (5.0, "game"),
            (6.0, "alpha: 0"),
            (24.0, "alpha: 1"),
            (26.0, "alpha: 2"),
            (27.0, "alpha: 3"),
        ):
            tell(4, 4, note)
    assert written.getvalue().splitlines() == [
        "Profiling: 4 of 4 evaluations after 5.0 s, 1.2 s per evaluation (game)",
        "Profiling: 4 of 4 evaluations after 26 s (alpha: 2)",
    ]
