"""Whether an engine that is asked for can start, without importing what it needs."""

from dataclasses import dataclass
from importlib.util import find_spec

from cokv_bench.engines.options import EngineOptions
from cokv_bench.errors import RequestError
from cokv_bench.registries import ENGINES


@dataclass(frozen=True)
class EngineKind:
    """What an engine needs.

    Attributes:
        package: that must be installed and starts workers, of the name of an extra of this package; None for an engine
            without workers.
    """

    package: str | None = None


LOCAL = EngineKind()
RAY = EngineKind("ray")


def check_engine(options: EngineOptions) -> None:
    """Refuse at once, before anything is loaded, an engine that cannot start as it is asked for.

    Raises:
        RequestError: an unknown engine, options of workers without an engine that has any, or its package is missing.
    """
    package = ENGINES.get(options.engine).package
    for option, value in (("--workers", options.workers), ("--address", options.address)):
        if package is None and value is not None:
            raise RequestError(f"{option} {value} is for Ray; add --engine ray.")
    if package is not None and find_spec(package) is None:
        raise RequestError(
            f"--engine {options.engine} needs the package {package}, which is not installed: "
            f"pip install 'cokv-bench[{package}]'"
        )
