"""Whether an engine that is asked for can start, without importing what it needs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cokv_bench.engines.options import EngineOptions
from cokv_bench.errors import RequestError
from cokv_bench.registries import ENGINES

if TYPE_CHECKING:
    from cokv_bench.engines.ray import RayWorkers
    from cokv_bench.models.spec import ModelSpec


@dataclass(frozen=True)
class EngineKind:
    """An engine, and what it needs.

    Attributes:
        package: that must be installed, of the name of an extra of this package; None where nothing more is needed.
        start: from model, number of workers and address to workers that run while a context lasts; None for this
            process alone.
    """

    package: str | None = None
    start: "Callable[[ModelSpec, int | None, str | None], AbstractContextManager[RayWorkers]] | None" = None


def _start_ray(spec: "ModelSpec", count: int | None, address: str | None) -> "AbstractContextManager[RayWorkers]":
    from cokv_bench.engines.ray import RayWorkers  # Imports torch, and Ray where it is started.

    return RayWorkers(spec, count, address)


LOCAL = EngineKind()
RAY = EngineKind("ray", _start_ray)


def check_engine(options: EngineOptions) -> None:
    """Refuse at once, before anything is loaded, an engine that cannot start as it is asked for.

    Raises:
        RequestError: an unknown engine, options of workers without an engine that has any, or its package is missing.
    """
    kind = ENGINES.get(options.engine)
    package = kind.package
    for option, value in (("--workers", options.workers), ("--address", options.address)):
        if kind.start is None and value is not None:
            raise RequestError(f"{option} {value} is for engines with workers; add --engine ray.")
    if package is not None and find_spec(package) is None:
        raise RequestError(
            f"--engine {options.engine} needs the package {package}, which is not installed: "
            f"pip install 'cokv-bench[{package}]'"
        )
