"""Lines of progress where there is no terminal."""

import io

import pytest
from rich.console import Console

from cokv_bench.cli import progress


def test_the_time_left_is_told_by_the_speed_of_the_units_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    written = io.StringIO()
    with progress.progress_bar(Console(file=written), "Searching", "steps") as tell:
        # Steps 0 to 40 were done by an earlier call, and reading takes 1,000 s before the first of this one.
        for clock[0], done in ((0.0, 40), (1000.0, 40), (1030.0, 45), (1060.0, 50)):
            tell(done, 100, "so far")
    assert written.getvalue().splitlines() == [
        "Searching: 40 of 100 steps after 1000 s (so far)",
        "Searching: 45 of 100 steps after 1030 s, 0.2 a second, about 330 s left (so far)",
        "Searching: 50 of 100 steps after 1060 s, 0.2 a second, about 300 s left (so far)",
    ]
