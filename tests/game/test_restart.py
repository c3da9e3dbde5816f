"""A profile that is killed again and again ends as one that never was."""

import subprocess
import sys
from pathlib import Path

import pytest

from cokv_bench.game import Ledger

# Dies by SIGKILL: within the write given (part of it done), or after some seconds, wherever the process then is.
PROFILE = """
import os, random, signal, sys, threading

folder, model, seed, torn, seconds = sys.argv[1:]
chance, torn = random.Random(seed), int(torn)
real, writes = os.write, 0


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def write(descriptor, data):
    global writes
    writes += 1
    if writes == torn:
        real(descriptor, bytes(data)[: chance.randrange(len(data))])
        die()
    return real(descriptor, data)


os.write = write

from cokv_bench.game.head_game import make_game
from cokv_bench.game.profile import profile
from cokv_bench.game.stopping import Stopping
from cokv_bench.models import load_model
from cokv_bench.tasks.registry import TaskOptions, resolve
from pathlib import Path

loaded = load_model(model, device="cpu")
game = make_game(loaded, resolve(["needle"], loaded, TaskOptions(lengths=(400,), examples=2)), "loglik", window=8)
if seconds != "never":
    threading.Timer(float(seconds), die).start()
profile(game, Path(folder), estimator="cc", sampling="neyman", seed=5, stopping=Stopping(samples=3000))
"""


def run(folder: Path, model: Path, *, seed: int = 0, torn: int = 0, seconds: str = "never") -> int:
    command = [sys.executable, "-c", PROFILE, str(folder), str(model), str(seed), str(torn), seconds]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode


@pytest.mark.timeout(400)
def test_a_killed_profile_goes_on_to_the_same_bytes(texty_folder: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(whole, texty_folder) == 0
    # Writes: the ledger's header, then for each step the journal's title, two examples, and the rows for the ledger.
    kills = [{"torn": 1}, {"torn": 4}, {"torn": 3}, {"torn": 8}, {"seconds": "0.5"}, {"torn": 2}]
    for seed, kill in enumerate(kills):
        assert run(parts, texty_folder, seed=seed, **kill) == -9, kill
    assert "step.jsonl" in [path.name for path in parts.iterdir()]
    assert 0 < len(Ledger.read(parts / "ledger.jsonl").done) < 6000
    assert run(parts, texty_folder) == 0
    for name in ("ledger.jsonl", "values.json"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    assert sorted(path.name for path in parts.iterdir()) == ["ledger.jsonl", "values.json"]
