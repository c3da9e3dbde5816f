"""A search that is killed again and again ends where one ends that never was."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# One process loads the model; its children search and are killed, at a random moment from outside or in the middle of
# a write to the ledger.
RUN = """
import os, random, signal, sys, time
from pathlib import Path

import torch

torch.set_num_threads(1)
from cokv_bench.models import load_model
from cokv_bench.search import SearchExamples, Stopping, search
from cokv_bench.tasks.registry import TaskOptions, resolve

folder, model = Path(sys.argv[1]), sys.argv[2]
chance = random.Random(int(sys.argv[3]))
loaded = load_model(model, device="cpu")
tasks = resolve(["needle"], loaded, TaskOptions(lengths=(300,), examples=8))


def child(name, torn=0):
    process = os.fork()
    if process:
        return process
    real, writes = os.write, 0

    def write(descriptor, data):
        nonlocal writes
        writes += 1
        if writes == torn:
            real(descriptor, bytes(data)[: chance.randrange(len(data))])
            os.kill(os.getpid(), signal.SIGKILL)
        return real(descriptor, data)

    os.write = write
    examples = SearchExamples(loaded, tasks, ["loglik"], window=8)
    search(examples, folder / name, [20, 40], seed=3, stopping=Stopping(steps=130))
    os._exit(0)


started = time.monotonic()
assert os.waitpid(child("whole"), 0)[1] == 0
whole = time.monotonic() - started
kills = 0
for attempt in range(12):
    if attempt % 3 == 2:
        process = child("killed", torn=chance.randint(1, 3))
    else:
        process = child("killed")
        time.sleep(chance.uniform(0, whole / 2))
        os.kill(process, signal.SIGKILL)
    kills += os.waitpid(process, 0)[1] == signal.SIGKILL
assert os.waitpid(child("killed"), 0)[1] == 0
print(kills)
"""


@pytest.mark.timeout(300)
def test_kills_change_nothing_but_the_seconds(texty_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, str(tmp_path), str(texty_folder), "5"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=290, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 4

    def ledger(name: str) -> list[dict[str, object]]:
        lines = (tmp_path / name / "search.jsonl").read_text().splitlines()
        return [{**json.loads(line), "seconds": 0} for line in lines]

    assert ledger("whole") == ledger("killed")
    assert len(ledger("whole")) == 2 + 7
    shares = [json.loads((tmp_path / name / "shares.json").read_text()) for name in ("whole", "killed")]
    for one in shares:
        # The ledger's digest knows the seconds.
        one["search"] = {**one["search"], "seconds": 0, "ledger_sha256": ""}
    assert shares[0] == shares[1]
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }
