"""A search that is killed again and again ends where one ends that never was."""

import json
from pathlib import Path

import pytest

from tests.killing import run_program

RUN = """
import random, sys
from pathlib import Path

from cokv_bench.models import load_model
from cokv_bench.search import SearchExamples, SearchLimits, search
from cokv_bench.tasks.registry import TaskOptions, resolve
from tests.killing import killed, killed_within_write, undisturbed

folder, model = Path(sys.argv[1]), sys.argv[2]
chance = random.Random(int(sys.argv[3]))
loaded = load_model(model, device="cpu")
tasks = resolve(["needle"], loaded, TaskOptions(lengths=(300,), examples=8))


def work(name):
    examples = SearchExamples(loaded, tasks, ["loglik"], window=8)
    search(examples, folder / name, [20, 40], seed=3, stopping=SearchLimits(steps=50))


seconds = undisturbed(lambda: work("whole"))
kills = 0
for attempt in range(9):
    if attempt % 3 == 2:
        kills += killed_within_write(lambda: work("killed"), chance.randint(1, 3), chance)
    else:
        kills += killed(lambda: work("killed"), after=chance.uniform(0, seconds / 4))
undisturbed(lambda: work("killed"))
print(kills)
"""


@pytest.mark.timeout(300)
def test_kills_change_nothing_but_the_seconds(texty_folder: Path, tmp_path: Path) -> None:
    (kills,) = run_program(RUN, tmp_path, texty_folder, 5, seconds=290)
    assert kills >= 3

    def ledger(name: str) -> list[dict[str, object]]:
        lines = (tmp_path / name / "search.jsonl").read_text().splitlines()
        return [{**json.loads(line), "seconds": 0} for line in lines]

    assert ledger("whole") == ledger("killed")
    assert len(ledger("whole")) == 2 + 3
    shares = [json.loads((tmp_path / name / "shares.json").read_text()) for name in ("whole", "killed")]
    for one in shares:
        # The ledger's digest knows the seconds.
        one["search"] = {**one["search"], "seconds": 0, "ledger_sha256": ""}
    assert shares[0] == shares[1]
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }
