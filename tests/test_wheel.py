"""The sdist, and the wheel made of it alone, installed where no checkout is seen and run from an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.documented import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
OFFLINE = ("--quiet", "--no-index", "--no-deps", "--no-cache-dir")

#: Bytes of the wheel. Nobody should wait for a file that was packed by mistake.
LIMIT = 1_500_000

# One process for all commands: each alone would import PyTorch.
COMMANDS = """
import sys
from pathlib import Path

import cokv_bench
from cokv_bench.cli import main

assert Path(cokv_bench.__file__).is_relative_to(sys.prefix), cokv_bench.__file__
for line in sys.stdin.read().splitlines():
    sys.argv = ["cokv-bench", *line.split()]
    print("$", line, flush=True)
    try:
        main()
    except SystemExit as stop:
        # Where the embedded model is not installed, doctor says so with status 1.
        assert not stop.code or (line == "doctor" and stop.code == 1), line
"""


# A folder of a checkout, with some file that setuptools might take along.
STRAY = {
    "results": "table.md",
    "tests": "test_wheel.py",
    "docs": "index.md",
    "scripts": "study_knobs.py",
    "dist": "a.whl",
}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because building leaves files beside the sources; unpacked."""
    pytest.importorskip("setuptools", reason="the build needs setuptools")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT / "cokv_bench", source / "cokv_bench", ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, source)
    for folder, name in STRAY.items():
        (source / folder).mkdir()
        (source / folder / name).touch()
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, target], cwd=source, capture_output=True, check=True)
    (built,) = target.glob("*.tar.gz")
    assert built.name == f"cokv_bench-{VERSION}.tar.gz"
    shutil.unpack_archive(built, target, filter="data")
    return target / f"cokv_bench-{VERSION}"


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP, "wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", target, sdist], check=True)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter whose environment has the wheel, and the dependencies of the one that runs the tests.

    Paths of a .pth file are searched last, and .pth files in them, such as those of an editable checkout, not read.
    """
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    found = environment / "bin" / "python"
    # A checkout on PYTHONPATH would count as installed.
    subprocess.run([*PIP, "--python", found, "install", *OFFLINE, wheel], env=clean(), check=True)
    (installed,) = environment.glob("lib/python*/site-packages")
    there = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (installed / "dependencies.pth").write_text("".join(f"{path}\n" for path in there))
    return found


def clean() -> dict[str, str]:
    """The environment without what points to a checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COKV_BENCH"))}


def run(command: list[object], folder: Path, lines: list[str]) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        input="\n".join(lines),
        env={**clean(), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_rows(path: Path) -> None:
    classes = ["abbreviation", "entity"]
    rows = [
        {
            "input": f"Which {i}?",
            "context": f"It is {i}. " * 50,
            "answers": classes[:1],
            "all_classes": classes,
            "length": 150,
        }
        for i in range(4)
    ]
    path.parent.mkdir()
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_the_sdist_has_the_package_and_what_its_users_read(sdist: Path) -> None:
    there = {path.name for path in sdist.iterdir()}
    made = {"PKG-INFO", "setup.cfg", "cokv_bench.egg-info"}
    read = {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "constraints.txt"}
    assert there == made | read | {"cokv_bench", "pyproject.toml", "MANIFEST.in"}


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    package = ROOT / "cokv_bench"
    files = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    with zipfile.ZipFile(wheel) as archive:
        there = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert there == {path.relative_to(ROOT).as_posix() for path in files}
    # Without what ships for the embedded model and without texts, few commands would work.
    for needed in (
        "budgets/shipped/smollm2-135m.values.json",
        "scores/published_scores/cokv.csv",
        "tasks/made/haystack/tides.txt",
    ):
        assert f"cokv_bench/{needed}" in there
    assert wheel.stat().st_size < LIMIT


@pytest.mark.timeout(300)
def test_every_command_works_from_an_empty_folder(python: Path, texty_folder: Path, tmp_path: Path) -> None:
    assert run([python.with_name("cokv-bench"), "--version"], tmp_path, []) == f"cokv-bench {VERSION}\n"
    assert run([python, "-c", "import cokv_bench; print(cokv_bench.__version__)"], tmp_path, []) == f"{VERSION}\n"
    model = f"--model {texty_folder} --device cpu"
    work = f"{model} --tasks needle --lengths 400"
    write_rows(tmp_path / "data" / "trec.jsonl")
    page = "--out report.html" if find_spec("plotly") else "--terminal"
    said = run(
        [python, "-c", COMMANDS],
        tmp_path,
        [
            "ls methods",
            "ls tasks",
            "doctor",
            f"profile {work} --depths 2 --samples 24 --out profile",
            "budgets profile --budget 24 --out budgets",
            f"search {work} --examples 8 --budget 24 --steps 1 --out search",
            f"eval {work} --depths 2 --method full,snapkv,cokv --budget 24 --profile profile --out run",
            f"eval {model} --tasks longbench/trec --data-dir data --split all --method full,snapkv --budget 64 "
            "--max-length 400 --reference cokv --out compared",
            f"report run {page}",
            "inspect",
            "inspect run",
            "export --to transformers --out exported",
            "reproduce smollm2 --dry-run",
        ],
    )
    parts = dict(part.partition("\n")[::2] for part in said.split("$ ")[1:])
    assert "longbench/hotpotqa" in parts["ls tasks"]
    assert VERSION in next(line for line in parts["doctor"].splitlines() if "cokv-bench" in line)
    assert "smollm2-135m" in parts["inspect"]
    assert "1. " in parts["reproduce smollm2 --dry-run"]
    assert {path.name for path in tmp_path.iterdir()} >= {"profile", "budgets", "search", "run"}
    assert (tmp_path / "compared" / "reference.csv").is_file()
    assert (tmp_path / "exported" / "custom_generate" / "generate.py").is_file()
