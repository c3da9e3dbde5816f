"""A run that is killed again and again, by several causes, ends with the tables of one that never was."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cokv_bench.cli import main
from cokv_bench.scores.tables import write_tables
from tests.killing import run_program

# The plan is the same for "whole" (never disturbed) and "killed".
RUN = """
import random, sys
from pathlib import Path

from cokv_bench.models import load_model
from cokv_bench.runs.execute import execute
from cokv_bench.runs.request import plan_request
from cokv_bench.tasks.registry import TaskOptions
from tests.killing import killed, killed_within_write, undisturbed
from tests.requests import request_of

folder, model = Path(sys.argv[1]), sys.argv[2]
chance = random.Random(int(sys.argv[3]))
loaded = load_model(model, device="cpu")
request = request_of(
    ["needle"], ["full", "snapkv", "h2o", "random"], [16, 40], options=TaskOptions(lengths=(500,), examples=40)
)
plan = plan_request(request, loaded)
seconds = undisturbed(lambda: execute(plan, folder / "whole"))
kills = 0
for attempt in range(60):
    if attempt % 4 == 3:
        kills += killed_within_write(lambda: execute(plan, folder / "killed"), chance.randint(1, 4), chance)
    else:
        kills += killed(lambda: execute(plan, folder / "killed"), after=chance.uniform(0, seconds / 18))
    if kills == 20:
        break
left = (folder / "killed" / "records.jsonl").read_bytes().count(b"\\n")
undisturbed(lambda: execute(plan, folder / "killed"))
print(kills, left)
"""


@pytest.mark.timeout(400)
def test_twenty_kills_change_no_table(texty_folder: Path, tmp_path: Path) -> None:
    kills, left = run_program(RUN, tmp_path, texty_folder, 7, seconds=390)
    assert kills == 20
    records = 40 * (1 + 3 * 2)
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

limit = int(sys.argv.pop(1))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from cokv_bench.cli import main
main()
"""


def test_a_full_disk_loses_nothing(texty_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def command(name: str) -> list[str]:
        needles = ["--lengths", "500", "--depths", "4", "--method", "full,snapkv", "--budget", "16"]
        return ["eval", "--model", str(texty_folder), *needles, "--out", str(tmp_path / name)]

    def run(name: str) -> None:
        monkeypatch.setattr(sys, "argv", ["cokv-bench", *command(name)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0

    run("whole")
    limit = (tmp_path / "whole" / "records.jsonl").stat().st_size * 5 // 8
    stopped = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(limit), *command("full")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert stopped.returncode == 2
    assert "cannot be written" in stopped.stderr
    data = (tmp_path / "full" / "records.jsonl").read_bytes()
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 4
    run("full")
    for name in ("scores.csv", "table.csv", "needle.csv", "table.md", "table.tex"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "full" / name).read_bytes(), name
