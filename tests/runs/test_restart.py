"""A run that is killed again and again, by several causes, ends with the tables of one that never was."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cokv_bench.runs import write_tables

# One process loads the model; its children run the plan and are killed: at a random moment by SIGKILL from outside, or
# in the middle of a write. The plan is the same for "whole" (never disturbed) and "killed".
RUN = """
import os, random, signal, sys, time
from pathlib import Path

import torch

torch.set_num_threads(1)
from cokv_bench.models import load_model
from cokv_bench.runs import execute
from cokv_bench.runs.request import Request, plan_request
from cokv_bench.tasks.registry import TaskOptions

folder, model = Path(sys.argv[1]), sys.argv[2]
chance = random.Random(int(sys.argv[3]))
loaded = load_model(model, device="cpu")
request = Request(
    tasks=["needle"],
    methods=["full", "snapkv", "h2o", "random"],
    budgets=[16, 40],
    task_options=TaskOptions(lengths=(500,), examples=60),
)
plan = plan_request(request, loaded)


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
    execute(plan, folder / name)
    os._exit(0)


started = time.monotonic()
assert os.waitpid(child("whole"), 0)[1] == 0
whole = time.monotonic() - started
kills = 0
for attempt in range(60):
    if attempt % 4 == 3:
        process = child("killed", torn=chance.randint(1, 4))
    else:
        process = child("killed")
        time.sleep(chance.uniform(0, whole / 18))
        os.kill(process, signal.SIGKILL)
    kills += os.waitpid(process, 0)[1] == signal.SIGKILL
    if kills == 20:
        break
left = (folder / "killed" / "records.jsonl").read_bytes().count(b"\\n")
assert os.waitpid(child("killed"), 0)[1] == 0
print(kills, left)
"""


@pytest.mark.timeout(400)
def test_twenty_kills_change_no_table(texty_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, str(tmp_path), str(texty_folder), "7"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=390, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    kills, left = map(int, done.stdout.split())
    assert kills == 20
    records = 60 * (1 + 3 * 2)
    # Some of the work was done under fire and some was left, or the kills would have proved nothing.
    assert 0 < left < records
    tables = [write_tables(tmp_path / name) for name in ("whole", "killed")]
    assert set(tables[0]) == set(tables[1]) == {"scores.csv", "table.csv", "comparisons.csv", "needle.csv"}
    for name in tables[0]:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name
    lines = (tmp_path / "killed" / "records.jsonl").read_text().splitlines()
    keys = {tuple(json.loads(line)[part] for part in ("task", "example", "method", "budget")) for line in lines}
    assert len(lines) == len(keys) == records


FULL_DISK = """
import resource, signal, sys
from pathlib import Path

limit = int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.argv = ["cokv-bench", "eval", "--model", sys.argv[2], "--lengths", "500", "--depths", "4", "--method",
            "full,snapkv", "--budget", "16", "--out", sys.argv[1]]
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from cokv_bench.cli import main
main()
"""


def test_a_full_disk_loses_nothing(texty_folder: Path, tmp_path: Path) -> None:
    def run(name: str, limit: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", FULL_DISK, str(tmp_path / name), str(texty_folder), str(limit)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert run("whole", 0).returncode == 0
    size = (tmp_path / "whole" / "records.jsonl").stat().st_size
    stopped = run("full", size * 5 // 8)
    assert stopped.returncode == 2
    assert "cannot be written" in stopped.stderr
    data = (tmp_path / "full" / "records.jsonl").read_bytes()
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 4
    assert run("full", 0).returncode == 0
    for name in ("scores.csv", "table.csv", "needle.csv", "table.md", "table.tex"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "full" / name).read_bytes(), name
