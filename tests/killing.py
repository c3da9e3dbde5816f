"""Work that is killed again and again, at a random moment or in the middle of a write, in processes of its own.

A test calls `run_program` with a program that loads what it needs once and hands the work to `undisturbed` and
`killed`, which do it in forked children.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

Work = Callable[[], object]

ROOT = Path(__file__).resolve().parents[1]


def run_program(program: str, *arguments: object, seconds: float) -> list[int]:
    """The whole numbers that a Python program prints; it must end well in so many seconds.

    It runs with one thread, as a process that forks should.
    """
    command = [sys.executable, "-c", f"import torch\n\ntorch.set_num_threads(1)\n{program}", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, check=False, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def undisturbed(work: Work) -> float:
    """Do the work in a child to its end; the seconds that it took."""
    started = time.monotonic()
    assert os.waitpid(_child(work), 0)[1] == 0
    return time.monotonic() - started


def killed(work: Work, *, after: float) -> bool:
    """Start the work in a child and kill it after so many seconds; False if it had ended before."""
    child = _child(work)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    return _died(child)


def killed_within_write(work: Work, number: int, chance: random.Random) -> bool:
    """Start the work in a child that dies within its `number`-th write, a part of which is done; False if it ended."""

    def torn() -> None:
        real, writes = os.write, 0

        def write(descriptor: int, data: bytes) -> int:
            nonlocal writes
            writes += 1
            if writes == number:
                real(descriptor, bytes(data)[: chance.randrange(len(data))])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(descriptor, data)

        os.write = write
        work()

    return _died(_child(torn))


def _child(work: Work) -> int:
    """Id of a process that does the work; what it says of an error goes to standard error."""
    process = os.fork()
    if process:
        return process
    try:
        work()
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def _died(child: int) -> bool:
    status = os.waitpid(child, 0)[1]
    # Anything but a kill or a good end is an error of the work, not of these tests.
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL
