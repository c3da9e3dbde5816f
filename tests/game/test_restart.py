"""A profile that is killed again and again ends as one that never was."""

from pathlib import Path

import pytest

from tests.killing import run_program

# Writes: the ledger's header, then for each step the journal's title, two examples, and the rows for the ledger.
PROFILE = """
import random, sys
from pathlib import Path

from cokv_bench.game import Ledger
from cokv_bench.game.head_game import make_game
from cokv_bench.game.profile import profile
from cokv_bench.game.stopping import Stopping
from cokv_bench.models import load_model
from cokv_bench.tasks.registry import TaskOptions, resolve
from tests.killing import killed, killed_within_write, undisturbed

folder, model = Path(sys.argv[1]), sys.argv[2]
chance = random.Random(0)
loaded = load_model(model, device="cpu")
tasks = resolve(["needle"], loaded, TaskOptions(lengths=(400,), examples=2))


def work(name):
    game = make_game(loaded, tasks, "loglik", window=8)
    profile(game, folder / name, estimator="cc", sampling="neyman", seed=5, stopping=Stopping(samples=3000))


seconds = undisturbed(lambda: work("whole"))
kills = sum(killed_within_write(lambda: work("parts"), number, chance) for number in (1, 4, 3, 8))
kills += killed(lambda: work("parts"), after=seconds / 8)
kills += killed_within_write(lambda: work("parts"), 2, chance)
journals = len(list((folder / "parts").glob("step.jsonl")))
print(kills, journals, len(Ledger.read(folder / "parts" / "ledger.jsonl").done))
undisturbed(lambda: work("parts"))
"""


@pytest.mark.timeout(400)
def test_a_killed_profile_goes_on_to_the_same_bytes(texty_folder: Path, tmp_path: Path) -> None:
    kills, journals, done = run_program(PROFILE, tmp_path, texty_folder, seconds=390)
    assert (kills, journals) == (6, 1)
    assert 0 < done < 6000
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for name in ("ledger.jsonl", "values.json"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    assert sorted(path.name for path in parts.iterdir()) == ["ledger.jsonl", "values.json"]
