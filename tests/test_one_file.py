"""In the tree a new policy is one file, and a new benchmark is one folder: no list, registry or chain names them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.documented import ROOT


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package with the toy policy and the toy benchmark as files of its own."""
    package = shutil.copytree(ROOT / "cokv_bench", tmp_path / "tree" / "cokv_bench").resolve()
    policy, task = ((ROOT / "examples" / "toys" / f"{name}.py").read_text() for name in ("every_kth", "echo"))
    policy = policy[: policy.index("\n\nregister_policy(")].replace(
        "from cokv_bench.policies import register_policy\n", ""
    )
    entry = 'ENTRY = ("every-kth", "every fourth token, spread over the prompt", "EveryKth")\n'
    # In the tree nothing is added to a registry by hand.
    by_hand = ("register_policy\n", "add_family\n")
    policy, task = (
        "".join(line for line in text.splitlines(keepends=True) if not line.endswith(by_hand))
        for text in (policy, task)
    )
    (package / "policies" / "scorers" / "every_kth.py").write_text(f"{policy}\n\n{entry}")
    folder = package / "tasks" / "echo"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    entry = 'ENTRY = ("echo", "a word many times, then once more", "ECHOES")\n'
    (folder / "family.py").write_text(
        f"{task}\n\n{entry}ECHOES = Echoes()\n".replace("import add_family", "import family_of")
    )
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
    asked = ("--method", "full,every-kth,every-kth:every=8+adaptive", "--tasks", "echo", "--budget", "24")
    assert "echo" in run("eval", "--model", texty_folder, *asked, "--dry-run")
    run("eval", "--model", texty_folder, *asked, "--out", "run")
    table = pd.read_csv(tree / "run" / "table.csv")
    assert list(table["method"]) == ["full", "every-kth", "every-kth:every=8+adaptive"]
    assert "echo" in table
