"""The embedded model answers what the made tasks ask, with all of the prompt kept."""

from collections import defaultdict
from pathlib import Path

import pytest

from cokv_bench.models import Model
from cokv_bench.runs.execute import execute
from cokv_bench.runs.journal import read_records
from cokv_bench.runs.request import plan_request
from cokv_bench.tasks.registry import TaskOptions
from tests.requests import request_of


@pytest.mark.model
def test_the_full_cache_answers(embedded: Model, tmp_path: Path) -> None:
    tasks = ["needle", "ruler/niah_single_1", "recall/lists", "recall/several"]
    request = request_of(tasks, ["full"], [32], options=TaskOptions(lengths=(400,), examples=3))
    execute(plan_request(request, embedded), tmp_path)
    found: dict[str, float] = defaultdict(float)
    for record in read_records(tmp_path):
        found[record["task"].partition("/")[0]] += record["score"]
    assert found["needle"] >= 2
    assert found["ruler"] >= 2
    assert found["recall"] >= 2
