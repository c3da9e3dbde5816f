"""The Ray that workers run on: one of this machine's own, or a cluster."""

import logging
import socket
from typing import Any

import ray
from ray import exceptions

from cokv_bench.engines.slots import Host
from cokv_bench.errors import RequestError

# Seconds to wait for a cluster's answer, and between looks at whether it still has hosts.
PATIENCE = 30.0


def connect(address: str | None) -> None:
    """Start Ray on this machine, or connect to the cluster at an address.

    Raises:
        RequestError: nothing at the address lets this process in.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": True, "logging_level": logging.ERROR}
    if address is None:
        # Not the cluster of RAY_ADDRESS, which nobody has named here.
        ray.init(address="local", include_dashboard=False, **quiet)
        return
    try:
        if address != "auto":
            _knock(address)
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError, exceptions.AuthenticationError) as error:
        raise RequestError(
            f"This process cannot join a Ray cluster at '{address}' ({type(error).__name__}); start one with "
            "`ray start --head`, then run this command on one of its hosts, with the cluster's token if it "
            "has one (docs/cluster.md)."
        ) from error


def _knock(address: str) -> None:
    """Raise `OSError` or `ValueError` unless something listens at host:port; Ray itself would wait for many minutes."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=PATIENCE).close()


def hosts_alive() -> list[Host]:
    """What Ray counts on each host that it reaches now."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Host(int(resources.get("CPU", 0)), int(resources.get("GPU", 0))) for resources in alive]
