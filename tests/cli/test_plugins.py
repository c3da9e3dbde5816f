"""Plug-ins: files and installed packages that add to the registries, and what happens when they fail."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from torch.nn import functional

from cokv_bench import plugins
from cokv_bench.doctor import Finding, findings
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import prefill, reading
from cokv_bench.models.model import Model
from cokv_bench.policies import get_policy
from cokv_bench.registries import ESTIMATORS, METHODS, UTILITIES
from tests.cli.test_reproduce import config
from tests.conftest import random_ids
from tests.costs.test_reproduction import SHAPE
from tests.documented import ROOT

TOYS = ROOT / "examples" / "toys"
NEEDLES = ("--tasks", "needle", "--lengths", "400", "--depths", "2")
ADDS = """
from cokv_bench.registries import METHODS
METHODS.add("mine", "a method of my own", "cokv_bench.policies.registry:SNAPKV")
"""


@pytest.fixture(autouse=True)
def _restored(registries_restored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(plugins.ENVIRONMENT, raising=False)


def made(path: Path, code: str = ADDS) -> Path:
    path.write_text(code)
    return path


def table(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]


def test_the_method_of_the_tutorial_is_snapkv_times_the_values(tiny_llama: Model) -> None:
    plugins.load_all([ROOT / "examples" / "tutorial" / "valued.py"])
    prompt = prefill(tiny_llama, random_ids(60), window=8)
    plain, none, whole = (get_policy(name) for name in ("snapkv", "valued:power=0", "valued"))
    assert none.select(prompt, 24) == plain.select(prompt, 24)
    for layer, (score, values) in enumerate(zip(whole.scorer(prompt), prompt.values, strict=True)):
        torch.testing.assert_close(score, plain.scorer(prompt)[layer] * values[:, :52].abs().sum(-1))


def test_a_policy_of_a_file_is_evaluated(cli, texty_folder: Path) -> None:
    status, _, err = cli(
        *("eval", "--plugin", TOYS / "every_kth.py", "--model", texty_folder, *NEEDLES, "--budget", "24"),
        *("--method", "full,snapkv,every-kth", "--out", "run"),
    )
    assert status == 0, err
    # After those of the package, as in the registry.
    assert list(pd.read_csv("run/table.csv")["method"]) == ["full", "snapkv", "every-kth"]
    assert pd.read_csv("run/scores.csv")["exact_total"].all()
    assert METHODS.origin("every-kth") == str(TOYS / "every_kth.py")


def test_a_ranking_of_a_file_drafts_at_each_budget(cli, texty_folder: Path) -> None:
    status, _, err = cli(
        *("eval", "--plugin", TOYS / "draft_last.py", "--model", texty_folder, *NEEDLES, "--budget", "24,48"),
        *("--method", "full,laq,draft-last", "--out", "run"),
    )
    assert status == 0, err
    assert list(pd.read_csv("run/table.csv")["method"]) == ["full", "draft-last", "laq", "draft-last", "laq"]
    assert pd.read_csv("run/scores.csv")["exact_total"].all()


def test_the_toy_ranking_goes_by_the_last_token_and_the_draft(tiny_llama: Model) -> None:
    plugins.load_all([TOYS / "draft_last.py"])
    prompt = prefill(tiny_llama, random_ids(60), window=8)
    policy = get_policy("draft-last")
    with pytest.raises(RequestError, match="for a budget"):
        policy.ranks(prompt)
    (wanted,) = policy.scorer_at(20).drafts(prompt)
    assert wanted.selection == get_policy("recent").select(prompt, 20)
    (draft,) = reading.draft(tiny_llama, prompt, [wanted.selection], 4)
    for layer, found in enumerate(policy.scorer_at(20)(prompt)):
        queries = torch.cat([prompt.window_queries[layer][:, -1:], draft.queries[layer]], dim=1).double()
        group = len(queries) // prompt.kv_heads
        keys = prompt.keys[layer].double().repeat_interleave(group, dim=0)
        seen = (queries @ keys.mT * prompt.factor).softmax(-1)[..., :52].amax(1)
        expected = functional.max_pool1d(seen.reshape(prompt.kv_heads, group, 52).mean(1), 7, 1, 3)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-7)


def test_a_task_of_a_file_is_listed_counted_and_evaluated_with_a_policy_of_another(cli, texty_folder: Path) -> None:
    toys = ("--plugin", TOYS / "echo.py", "--plugin", TOYS / "every_kth.py")
    status, out, err = cli("ls", "tasks", *toys)
    assert status == 0, err
    rows = table(out)
    # Echo is the last one; what does not fit in a cell goes on in the rows below.
    _, line, origin = zip(*rows[[row[0] for row in rows].index("echo") :], strict=True)
    assert " ".join(line).strip() == "a word many times, then once more"
    assert "".join(origin) == str(TOYS / "echo.py")
    assert next(row for row in rows if row[0] == "needle")[2] == "cokv-bench"
    asked = ("--model", texty_folder, "--tasks", "echo", "--method", "full,snapkv,every-kth", "--budget", "24")
    status, out, err = cli("eval", *asked, *toys, "--dry-run")
    assert status == 0, err
    assert "echo" in out
    step = {"command": "eval", "options": {"tasks": "echo", "method": "full,every-kth:k=8", "budget": 24}}
    Path("r.yaml").write_text(yaml.safe_dump({"model": "m", "shape": SHAPE, "steps": [step]}))
    status, out, err = cli("reproduce", "r.yaml", *toys, "--dry-run")
    assert status == 0, err
    assert "Not counted" not in out
    assert next(line for line in out.splitlines() if "1. eval" in line and "echo" in line and "800" in line)
    status, _, err = cli("eval", *asked, *toys, "--out", "run")
    assert status == 0, err
    scores = pd.read_csv("run/scores.csv")
    assert set(scores["task"]) == {"echo"}
    assert (scores["n"] == 2).all()


def test_a_utility_and_an_estimator_of_files_make_a_profile(cli, texty_folder: Path) -> None:
    status, _, err = cli(
        *("--plugin", TOYS / "likeness.py", "profile", "--model", texty_folder, *NEEDLES, "--samples", "24"),
        *("--utility", "likeness", "--estimator", "with-less-without", "--out", "profile"),
        f"--plugin={TOYS / 'with_less_without.py'}",
    )
    assert status == 0, err
    values = json.loads(Path("profile/values.json").read_text())
    assert values["estimator"] == "with-less-without"
    assert UTILITIES.origin("likeness") == str(TOYS / "likeness.py")
    assert ESTIMATORS.origin("with-less-without") == str(TOYS / "with_less_without.py")


def test_the_toy_estimator_finds_the_values_of_an_additive_game() -> None:
    import numpy as np

    from cokv_bench.game import estimate

    plugins.load_all([TOYS / "with_less_without.py"])
    worth = np.array([1.0, -2.0, 0.5, 0.0])
    found = estimate(lambda members: members @ worth, 4, "with-less-without", samples=4000)
    assert np.abs(found.values - worth).max() < 4 * found.standard_errors.max() < 0.2


def test_lists_name_the_origin_where_there_is_another_than_the_package(
    cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(tmp_path / "one.py")
    two = made(tmp_path / "two.py", ADDS.replace("mine", "other"))
    monkeypatch.setenv(plugins.ENVIRONMENT, os.pathsep.join([one.name, str(two)]))
    # Twice, by two names of the same file.
    status, out, err = cli("--plugin", one, "ls", "methods", "--plugin", one.name)
    assert status == 0, err
    rows = table(out)
    assert {row[0]: row[2] for row in rows if row[0] in ("snapkv", "mine")} == {
        "snapkv": "cokv-bench",
        "mine": "one.py",
    }
    assert "other" in [row[0] for row in rows]
    status, out, _ = cli("ls", "estimators")
    assert status == 0
    assert {len(row) for row in table(out)} == {2}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def :", "SyntaxError"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        (ADDS.replace("mine", "snapkv"), "There is a method 'snapkv' already, from cokv-bench"),
        (None, "there is no file"),
    ],
)
def test_a_plug_in_that_fails_is_one_sentence(cli, tmp_path: Path, code: str | None, words: str) -> None:
    path = tmp_path / "broken.py"
    if code is not None:
        made(path, code)
    status, out, err = cli("eval", "--method", "no-such-method", "--plugin", path)
    assert status == 2
    assert not out
    assert len(err.splitlines()) == 1
    assert f"The plug-in '{path}' cannot be loaded (" in err
    assert words in err
    assert len(err) < 420
    status, _, _ = cli("doctor", "--plugin", path)
    assert status == 1
    (found,) = [each for each in findings([path]) if each.thing == "plug-in"]
    assert words in found.found
    assert found.mend == f"leave {path} out"
    assert plugins.loaded() == ()


def test_doctor_lists_plug_ins(tmp_path: Path) -> None:
    path = made(tmp_path / "one.py")
    assert Finding("plug-in", str(path)) in list(findings([path]))


def test_a_file_that_is_no_python_is_refused(cli, tmp_path: Path) -> None:
    status, _, err = cli("ls", "--plugin", made(tmp_path / "plugin.txt"))
    assert status == 2
    assert "its name must end in .py" in err


def test_names_of_plug_ins_are_checked_without_pytorch(tmp_path: Path) -> None:
    made(tmp_path / "one.py")
    code = (
        "import sys\nfrom cokv_bench.cli import main\n"
        "for line in ('ls methods', 'eval --method mien', 'profile --utility mine'):\n"
        "    sys.argv = ['cokv-bench', *line.split(), '--plugin', 'one.py']\n"
        "    try:\n        main()\n    except SystemExit as stop:\n        print('status', stop.code)\n"
        "print({'torch', 'transformers', 'scipy'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    statuses = [line for line in done.stdout.splitlines() if line.startswith("status")]
    assert statuses == ["status 0", "status 2", "status 2"]
    assert "did you mean mine" in done.stderr
    assert done.stdout.endswith("set()\n")


@pytest.mark.timeout(300)
def test_steps_of_a_reproduction_load_the_same_files(cli, texty_folder: Path, tmp_path: Path) -> None:
    config(tmp_path, texty_folder, method="full,mine,cokv")
    path = made(tmp_path / "one.py")
    status, _, err = cli("reproduce", "config.yaml", "--plugin", path)
    assert status == 0, err
    assert list(pd.read_csv("run/table.csv")["method"]) == ["full", "cokv", "mine"]


def test_workers_load_the_plug_ins_of_the_driver_before_the_model(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'cokv-bench[ray]')")
    from cokv_bench.engines import worker

    class Spec:
        def load(self) -> str:
            return f"loaded after {[plugin.name for plugin in plugins.loaded()]}"

    path = made(tmp_path / "one.py")
    (plugin,) = [each for each in plugins.find([path]) if each.file]
    here = worker._here
    try:
        worker._here = None
        assert worker.Worker(Spec(), os.getcwd(), 1, [plugin])._model() == f"loaded after {[str(path)]}"  # type: ignore[arg-type, comparison-overlap]
        missing = plugins.Plugin("elsewhere", "no_such_package", file=False)
        worker._here = None
        with pytest.raises(RequestError, match=r"worker has not loaded the plug-in 'elsewhere'.*no_such_package"):
            worker.Worker(Spec(), os.getcwd(), 1, [missing])._model()  # type: ignore[arg-type]
    finally:
        worker._here = here


@pytest.mark.timeout(300)
def test_an_installed_package_is_found(texty_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="the build needs setuptools")
    # Building leaves files next to the sources.
    source, target = tmp_path / "plugin", tmp_path / "site"
    shutil.copytree(ROOT / "examples" / "plugin", source)
    assert (source / "cokv_bench_every_kth.py").read_text() == (TOYS / "every_kth.py").read_text()
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "install", "--quiet")
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--target", target, source)
    subprocess.run([*pip, *offline], check=True, capture_output=True)
    paths = os.pathsep.join([str(target), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "COLUMNS": "200"}

    def command(*arguments: object) -> str:
        line = [sys.executable, "-m", "cokv_bench", *map(str, arguments)]
        done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert ["every-kth", "cokv-bench-every-kth"] in [row[::2] for row in table(command("ls", "methods"))]
    command(
        *("eval", "--model", texty_folder, "--device", "cpu", *NEEDLES, "--budget", "24"),
        *("--method", "full,every-kth", "--out", "run"),
    )
    assert list(pd.read_csv(tmp_path / "run" / "table.csv")["method"]) == ["full", "every-kth"]
