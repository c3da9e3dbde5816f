"""The order of the rooms: imports run one way, and what tabulates and shows results does without PyTorch.

A room is a folder or a module of the package. Imports within functions count; those under TYPE_CHECKING do not.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cokv_bench

PACKAGE = Path(cokv_bench.__file__).parent

#: From the top down. A room may import the rooms of lower lines alone, so rooms of one line do not know each other.
ORDER = (
    "__main__",
    "cli",
    "doctor report harness",
    "scores costs bench exports",
    "runs",
    "search",
    "game",
    "catalogue engines",
    "tasks policies",
    "kvcache",
    "models budgets",
    "registries plugins limits",
    "registry option log files lazy units hub",
    "lists budget",
    "checks",
    "errors",
)
PLACES = {room: place for place, rooms in enumerate(ORDER) for room in rooms.split()}


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def nodes(tree: ast.AST, *, functions: bool = True) -> Iterator[ast.AST]:
    """All of a tree but what only a type checker reads and, if not wanted, the insides of functions."""
    yield tree
    skipped: list[ast.AST] = []
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.unparse(tree.test):
        skipped = [*tree.body]
    elif not functions and isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return
    for child in ast.iter_child_nodes(tree):
        if child not in skipped:
            yield from nodes(child, functions=functions)


def imported(path: Path, *, functions: bool = True) -> Iterator[str]:
    """Full names of what a module imports."""
    for node in nodes(ast.parse(path.read_text(encoding="utf-8")), functions=functions):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports from where it stands; write the whole name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def test_every_room_has_a_place() -> None:
    assert {room_of(path) for path in modules()} <= set(PLACES)


def test_imports_run_one_way() -> None:
    wrong = []
    for path in modules():
        for name in imported(path):
            parts = name.split(".")
            if parts[0] != "cokv_bench" or (room := room_of(path)) == parts[1]:
                continue
            # What the package itself has on its front is for users.
            if parts[1] not in PLACES or PLACES[parts[1]] <= PLACES[room]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def test_the_order_is_seen_where_it_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a.unseen\nelse:\n    import a.seen\n"
        "def f():\n    from b import inside\n"
    )
    assert [*imported(path)] == ["typing.TYPE_CHECKING", "a.seen", "b.inside"]
    assert [*imported(path, functions=False)] == ["typing.TYPE_CHECKING", "a.seen"]


def test_results_are_read_without_pytorch() -> None:
    """No module of these rooms imports it before a function runs, nor does any module that it imports."""
    paths = [path for room in ("scores", "report") for path in (PACKAGE / room).rglob("*.py")]
    own = {(path.name, name.split(".")[0]) for path in paths for name in imported(path, functions=False)}
    assert not [each for each in own if each[1] in ("torch", "transformers")]
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths]
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    assert not {'torch', 'transformers'} & sys.modules.keys(), name\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
