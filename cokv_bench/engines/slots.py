"""How many workers the hosts of a cluster hold, and how many CPUs each worker gets."""

from collections.abc import Sequence
from dataclasses import dataclass

from cokv_bench.errors import RequestError


@dataclass(frozen=True)
class Host:
    """What one host of a cluster has."""

    cpus: int
    gpus: int

    def holds(self, cpus: int, gpu: bool) -> int:
        """Number of workers of so many CPUs, and of one GPU each if `gpu`, that fit."""
        fit = self.cpus // cpus
        return min(fit, self.gpus) if gpu else fit


def default_workers(hosts: Sequence[Host], gpu: bool) -> int:
    """One worker a GPU, or one a host where the CPUs compute."""
    return sum(host.holds(1, gpu) if gpu else host.cpus > 0 for host in hosts)


def cpus_each(hosts: Sequence[Host], workers: int, gpu: bool) -> int:
    """The most CPUs that each of so many workers can have.

    Raises:
        RequestError: the hosts do not hold that many.
    """
    for cpus in range(max((host.cpus for host in hosts), default=0), 0, -1):
        if sum(host.holds(cpus, gpu) for host in hosts) >= workers:
            return cpus
    there = sum(host.holds(1, gpu) for host in hosts)
    kind = "GPUs" if gpu else "CPUs"
    raise RequestError(f"Ray has {there} {kind} for workers, and {workers} workers need one each; ask for fewer.")
