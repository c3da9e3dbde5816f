"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

Callback = Callable[[int, int | None, str], None]
_SECONDS_BETWEEN_LINES = 20.0


@contextmanager
def progress_bar(console: Console, what: str, unit: str) -> Iterator[Callback]:
    """A callback (done, total, note) that shows how far the work is, its rate and what is left.

    A total of None is an end that is not known yet. `unit` names one of what is counted.
    """
    units = f"{unit}es" if unit.endswith("s") else f"{unit}s"
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(units),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        bar = Progress(*columns, console=console)
        row = bar.add_task(what, total=None)
        # What is known so far has a line of its own: beside the bar a narrow terminal would cut it off.
        known = Text()
        with Live(Group(bar, known), console=console, refresh_per_second=4):

            def update(done: int, total: int | None, note: str) -> None:
                if bar.tasks[row].completed == 0:
                    bar.reset(row, completed=done)  # What an earlier, stopped call has done says nothing of the speed.
                bar.update(row, completed=done, total=total)
                known.plain = note

            yield update
        return
    started = last = begun = time.monotonic()
    first: int | None = None
    ended = False

    def write(done: int, total: int | None, note: str) -> None:
        nonlocal last, first, begun, ended
        now = time.monotonic()
        if first is None or done == first:
            # Neither what an earlier call has done nor what precedes the first unit says anything of the speed.
            first, begun = done, now
        # Once, at the end, without waiting; what follows the last unit has lines now and then as well.
        ends, ended = done == total and not ended, done == total
        if not ends and now - last < _SECONDS_BETWEEN_LINES:
            return
        last = now
        speed = (done - first) / (now - begun) if now > begun else 0.0
        rate = f", {_rate(speed, unit)}" if speed and (ends or not ended) else ""
        ahead = 0 if total is None else total - done
        left = f", about {_duration(ahead / speed)} left" if speed and ahead > 0 else ""
        count = f"{done}" if total is None else f"{done} of {total}"
        line = f"{what}: {count} {units} after {_duration(now - started)}{rate}{left} ({note})"
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    yield write


def _rate(speed: float, unit: str) -> str:
    """How fast work goes, as a number that is not below one."""
    return f"{speed:.1f} per second" if speed >= 1 else f"{_duration(1 / speed)} per {unit}"


def _duration(seconds: float) -> str:
    """Seconds in the unit in which they are one or two digits, or three."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
