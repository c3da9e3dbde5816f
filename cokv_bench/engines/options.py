"""Where work runs, as it is asked for."""

from dataclasses import dataclass
from typing import Annotated

from cokv_bench.option import Option

_PANEL = "Several GPUs or hosts (docs/cluster.md)"


@dataclass(frozen=True)
class EngineOptions:
    """Where work runs: in this process, or on Ray's workers with a model each."""

    engine: Annotated[str, Option("local (this process) or ray (pip install 'cokv-bench\\[ray]').", _PANEL)] = "local"
    workers: Annotated[
        int | None,
        Option(
            "Ray workers; each loads the model. Default: one per GPU, or one per host without GPUs.", _PANEL, least=1
        ),
    ] = None
    address: Annotated[
        str | None,
        Option("Address of the Ray cluster: auto, or host:port. Default: start Ray on this machine.", _PANEL),
    ] = None
