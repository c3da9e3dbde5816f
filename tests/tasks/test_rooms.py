"""Who may know whom: no benchmark imports another, and outside of its room nobody knows a task by its name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import cokv_bench

PACKAGE = Path(cokv_bench.__file__).parent
BENCHMARKS = ("needle", "text", "ruler", "longbench", "recall", "tables")
#: What lists, checks, counts and tabulates tasks, and must ask their families instead.
ASKING = ("catalogue.py", "runs", "report", "budgets/knobs.py", "tasks/registry.py")


def files(place: str) -> Iterator[Path]:
    path = PACKAGE / place
    return iter([path]) if path.is_file() else path.rglob("*.py")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("room", [*BENCHMARKS, "made", "rows", "metrics"])
def test_no_benchmark_imports_another(room: str) -> None:
    others = [f"cokv_bench.tasks.{other}." for other in BENCHMARKS if other != room]
    found = {
        f"{path.name}: {name}"
        for path in files(f"tasks/{room}")
        for name in imported(path)
        if f"{name}.".startswith(tuple(others))
    }
    assert not found


def texts(path: Path) -> Iterator[str]:
    """The texts of a module that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value


@pytest.mark.parametrize("place", ASKING)
def test_nobody_else_knows_tasks_by_name(place: str) -> None:
    names = ("needle", "ruler", "recall", "longbench", "longbench-e", "jsonl")
    found = {
        f"{path.name}: {text}"
        for path in files(place)
        for text in texts(path)
        if text in names or text.startswith(("ruler/", "recall/", "longbench/", "jsonl:"))
    }
    assert not found
