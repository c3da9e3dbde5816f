"""Head files and models that the tests of exports share."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cokv_bench.budgets import HeadShares

HERE = Path(__file__).parent
#: Environment variable with the interpreter that finds kvpress.
KVPRESS = "COKV_BENCH_KVPRESS_PYTHON"
TOY = {"id": "toy", "layers": 3, "kv_heads": 2, "head_dim": 8, "weights": None}


def shares(model: Mapping[str, Any], *, seed: int = 0, spread: float = 1.2, **ranking: Any) -> HeadShares:
    """Uneven shares at two budgets, ranked by SnapKV's rule with a window of 4 unless told otherwise.

    Args:
        spread: standard deviation of the log-shares.
    """
    shape = (2, model["layers"], model["kv_heads"])
    tables = np.random.default_rng(seed).normal(0, spread, shape)
    made: dict[str, Any] = {"window": 4, "kernel": 5, **ranking}
    return HeadShares((16, 48), tables, utilities=("loglik",), tasks=(), examples=(), model=model, search={}, **made)


def elsewhere(program: str, asked: Any, folder: Path, python: str = sys.executable) -> Any:
    """What a program beside this file prints, given JSON, in a process that does not find the package.

    Args:
        folder: for the copies that transformers makes of remote code.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(folder), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, str(HERE / program)],
        input=json.dumps(asked),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def new_ids(found: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """The ids of each generation."""
    return [each["ids"] for each in found]


def with_kvpress(asked: Mapping[str, Any], folder: Path) -> Any:
    """What kvpress keeps, see `plain_kvpress.py`; the test is skipped where there is no kvpress.

    kvpress wants another release of transformers than this project, so it has an environment of its own.
    """
    found = elsewhere("plain_kvpress.py", asked, folder, os.environ.get(KVPRESS, sys.executable))
    if "missing" in found:
        pytest.skip(f"{found['missing']}; name the interpreter of an environment that has it in {KVPRESS}")
    return found["kept"]
