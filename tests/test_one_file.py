"""In the tree a new policy is one file, and a new benchmark is one folder: no list, registry or chain names them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.documented import ROOT


def toy(name: str) -> str:
    """The code of a toy without what adds it to a registry."""
    adds = ("register_policy", "add_family")
    imports = tuple(f"import {each}\n" for each in adds)
    lines = (ROOT / "examples" / "toys" / f"{name}.py").read_text().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(adds) and not line.endswith(imports))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package with the toy policy and the toy benchmark as files of its own."""
    package = shutil.copytree(ROOT / "cokv_bench", tmp_path / "tree" / "cokv_bench").resolve()
    policy = 'ENTRY = ("every-kth", "every fourth token, spread over the prompt", "EveryKth")\n'
    (package / "policies" / "scorers" / "every_kth.py").write_text(f"{toy('every_kth')}\n\n{policy}")
    folder = package / "tasks" / "echo"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    task = 'ENTRY = ("echo", "a word many times, then once more", "ECHOES")\nECHOES = Echoes()\n'
    (folder / "family.py").write_text(f"{toy('echo')}\n\n{task}")
    return package.parent


def test_a_new_policy_and_a_new_benchmark_are_found_by_their_files(tree: Path, texty_folder: Path) -> None:
    def run(*arguments: object) -> str:
        environment = {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "200"}
        command = [sys.executable, "-m", "cokv_bench", *map(str, arguments)]
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "every fourth token" in run("ls", "scorers")
    assert "a word many times" in run("ls", "tasks")
    asked = ("--method", "full,every-kth,every-kth:k=8+adaptive", "--tasks", "echo", "--budget", "24")
    assert "echo" in run("eval", "--model", texty_folder, *asked, "--dry-run")
    run("eval", "--model", texty_folder, *asked, "--out", "run")
    table = pd.read_csv(tree / "run" / "table.csv")
    assert list(table["method"]) == ["full", "every-kth", "every-kth:k=8+adaptive"]
    assert "echo" in table
