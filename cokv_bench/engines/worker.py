"""What runs in the process of a Ray worker: calls, on a model of its own."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import psutil
import ray
import torch

from cokv_bench.models import Model
from cokv_bench.models.spec import ModelSpec
from cokv_bench.plugins import Plugin, load_same

# The model of this process, if it is a worker.
_here: Model | None = None


class Worker:
    """What the driver calls, one a process."""

    def __init__(self, spec: ModelSpec, folder: str, threads: int, plugins: Sequence[Plugin] = ()) -> None:
        # Relative paths mean what they mean to the driver, where its folder is there.
        with suppress(OSError):
            os.chdir(folder)
        torch.set_num_threads(threads)
        self._spec = spec
        self._plugins = plugins
        self._context: Any = None

    def dtype(self) -> str:
        return str(self._model().network.dtype).removeprefix("torch.")

    def host_memory(self) -> tuple[str, int]:
        """The host's id, and its bytes of free memory."""
        self._model()
        return ray.get_runtime_context().get_node_id(), int(psutil.virtual_memory().available)

    def open(self, make: list[Any]) -> None:
        model = self._model()
        # Its memory may be needed for what comes.
        self._context = None
        self._context = ray.get(make[0])(model)

    def run(self, run: Callable[[Any], Any]) -> Any:
        return run(self._context)

    def _model(self) -> Model:
        # Not in the constructor, whose errors Ray turns into the end of the worker.
        global _here
        if _here is None:
            # Before anything that a plug-in defines arrives.
            load_same(self._plugins)
            _here = self._spec.load()
        return _here


def departing(model: Model) -> str:
    """What travels instead of a model: its name."""
    return model.name


def arriving(name: str) -> Model:
    """This worker's own model in place of the name of one."""
    if _here is None or _here.name != name:
        raise RuntimeError(f"Model '{name}' was sent to a process that has not loaded it.")
    return _here
