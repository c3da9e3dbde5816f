"""Plug-ins: Python code outside the package that adds methods, utilities, estimators or metrics to the registries.

There are three ways to name one, and all are loaded before names are checked and before a model is loaded:

- an installed package with an entry point in the group `cokv_bench.plugins`: a module, or a function to call;
- files of Python code in the environment variable `COKV_BENCH_PLUGINS`, separated as in `PATH`;
- `--plugin FILE.py` on the command line.
"""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from cokv_bench.errors import RequestError, brief
from cokv_bench.files import at_home
from cokv_bench.registry import adding

GROUP = "cokv_bench.plugins"
ENVIRONMENT = "COKV_BENCH_PLUGINS"


@dataclass(frozen=True)
class Plugin:
    """Where a plug-in comes from.

    Attributes:
        name: of the installed package, or the file's path as it was given.
        source: the value of its entry point, such as "package.module:function", or the file's absolute path.
        file: whether it is a file.
    """

    name: str
    source: str
    file: bool


_loaded: dict[str, Plugin] = {}


def find(files: Iterable[Path] = ()) -> list[Plugin]:
    """The plug-ins that are installed, then those of the environment, then these files; nothing is imported.

    Raises:
        RequestError: a path that no file can have.
    """
    named = [Path(path) for path in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if path]
    found = [
        Plugin(point.dist.name if point.dist else point.name, point.value, file=False)
        for point in sorted(entry_points(group=GROUP))
    ]
    found += [Plugin(str(path), str(at_home(path).resolve()), file=True) for path in (*named, *files)]
    once: dict[str, Plugin] = {}
    for plugin in found:
        once.setdefault(plugin.source, plugin)
    return list(once.values())


def load(plugin: Plugin) -> None:
    """Run a plug-in's code, which adds to the registries; one that is loaded already stays as it is.

    Raises:
        RequestError: it fails, or adds a name that is taken.
    """
    if plugin.source in _loaded:
        return
    try:
        with adding(plugin.name):
            if plugin.file:
                _run_file(Path(plugin.source))
            else:
                _run_entry_point(plugin)
    except (Exception, SystemExit) as error:
        cause = brief(error) if isinstance(error, RequestError) else f"{type(error).__name__}: {brief(error)}"
        raise RequestError(
            f"The plug-in '{plugin.name}' cannot be loaded ({cause}); fix it or leave it out."
        ) from error
    _loaded[plugin.source] = plugin


def load_all(files: Iterable[Path] = ()) -> None:
    """Load what `find` finds. Raises `RequestError` for the first one that fails."""
    for plugin in find(files):
        load(plugin)


def loaded() -> tuple[Plugin, ...]:
    """The plug-ins of this process, in the order in which they were loaded."""
    return tuple(_loaded.values())


def load_same(plugins: Sequence[Plugin]) -> None:
    """Load in this process what another one, perhaps of another host, has loaded.

    Raises:
        RequestError: one is not here or fails.
    """
    for plugin in plugins:
        try:
            load(plugin)
        except RequestError as error:
            raise RequestError(
                f"A worker has not loaded the plug-in '{plugin.name}' of the run ({brief(error)}); "
                "install it, or put the file at the same path, on every host."
            ) from error


def arguments() -> list[str]:
    """The options with which another `cokv-bench` loads the files that this process has loaded."""
    return [part for plugin in loaded() if plugin.file for part in ("--plugin", plugin.source)]


def _run_file(path: Path) -> None:
    if not path.is_file():
        raise RequestError(f"there is no file {path}")
    # A name of its own for each path, the same in every process: what the module defines can travel to workers.
    name = f"cokv_bench_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RequestError("it is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _run_entry_point(plugin: Plugin) -> None:
    found = EntryPoint(plugin.name, plugin.source, GROUP).load()
    if callable(found):
        found()
