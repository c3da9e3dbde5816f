"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Callback = Callable[[int, int, str], None]
_SECONDS_BETWEEN_LINES = 20.0


@contextmanager
def progress_bar(console: Console, what: str) -> Iterator[Callback]:
    """A callback (done, total, note) that shows how far the work is, its rate and what is left."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as bar:
            row = bar.add_task(what, total=None, note="")
            yield lambda done, total, note: bar.update(row, completed=done, total=total, note=note)
        return
    started = last = time.monotonic()

    def line(done: int, total: int, note: str) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < _SECONDS_BETWEEN_LINES:
            return
        last = now
        spent = now - started
        left = f", about {spent / done * (total - done):.0f} s left" if 0 < done < total else ""
        console.print(f"{what}: {done} of {total} after {spent:.0f} s{left} ({note})", highlight=False, soft_wrap=True)

    yield line
