"""What the documentation tells to type: found in the pages, and read by the real parsers."""

import functools
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_STARTS = ("cokv-bench ", "make ", "python scripts/")


def typed(page: Path) -> list[str]:
    """The commands of a page in its order, without comments: lines of its shell blocks, then those within sentences."""
    text = page.read_text(encoding="utf-8")
    lines = [
        line.strip()
        for language, block in FENCE.findall(text)
        if language in ("", "bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", FENCE.sub("", text))]
    found = (" ".join(re.sub(r"\s#.*", "", line).split()) for line in lines if line.startswith(_STARTS))
    return list(dict.fromkeys(found))


TYPED = {page.name: typed(page) for page in PAGES}


def load(path: Path) -> ModuleType:
    """The module of a file that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def script(name: str) -> Any:
    """The command that `python scripts/NAME.py` is."""
    path = ROOT / "scripts" / f"{name}.py"
    assert path.is_file()
    app = typer.Typer()
    # Scripts import from one another, as Python lets those that it runs.
    sys.path.insert(0, str(path.parent))
    try:
        app.command()(load(path).main)
    finally:
        sys.path.remove(str(path.parent))
    return typer.main.get_command(app)


@functools.cache
def subcommands() -> dict[str, Any]:
    """The commands of `cokv-bench` by name."""
    from cokv_bench.cli import make_app

    return typer.main.get_command(make_app()).commands  # type: ignore[attr-defined]


def parser(line: str) -> tuple[Any, list[str]]:
    """The command that a line starts, `cokv-bench NAME` or `python scripts/NAME.py`, and the arguments it is given."""
    program, name, *arguments = shlex.split(line)
    if program == "python":
        folder, _, file = name.partition("/")
        assert folder == "scripts"
        return script(file.removesuffix(".py")), arguments
    assert program == "cokv-bench"
    assert name in subcommands()
    while "--plugin" in arguments:
        # An option of the program, which reads it before the command.
        place = arguments.index("--plugin")
        del arguments[place : place + 2]
    command = subcommands()[name]
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    return command, arguments


def plugins(line: str) -> list[Path]:
    """The files that a line names with `--plugin`, in the repository."""
    return [ROOT / name for name in re.findall(r"--plugin (\S+)", line)]


def parse(line: str) -> Any:
    """Options and arguments as the real program reads them; it fails where they are wrong, and nothing runs.

    The line's plug-ins are loaded, and it is up to the caller to take out what they add.
    """
    from cokv_bench.plugins import load_all
    from cokv_bench.policies import find_method

    load_all(plugins(line))
    command, arguments = parser(line)
    context = command.make_context(command.name, list(arguments))
    # Some hand on what they do not know.
    if command.name == "lm-eval":
        parse_lm_eval(context.args)
    elif context.args:
        subcommands()["eval"].make_context("eval", list(context.args))
    for method in (context.params.get("methods") or "full").split(","):
        find_method(method)
    return context


def parse_lm_eval(given: list[str]) -> None:
    """Options as lm-evaluation-harness reads them, where it is installed, and arguments of its model."""
    from cokv_bench.cli.lm_eval import arguments
    from cokv_bench.harness.arguments import EvictionArguments

    EvictionArguments.parse(given[given.index("--model-args") + 1])
    if importlib.util.find_spec("lm_eval") is not None:
        from lm_eval._cli import HarnessCLI

        HarnessCLI()._parser.parse_args(arguments(given, "cokv-bench"))


def made(line: str) -> list[str]:
    """What a line that starts with `make` would run, a command each, without the folder of the programs."""
    # Run by `make test`, this process has the flags of that `make`.
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    asked = [*shlex.split(line), "--dry-run", "--no-print-directory"]
    done = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = done.stdout.replace("\\\n", " ")
    lines = [each for each in text.splitlines() if not each.startswith("make: ")]
    return [" ".join(part.split()).removeprefix(".venv/bin/") for each in lines for part in each.split("&&")]
