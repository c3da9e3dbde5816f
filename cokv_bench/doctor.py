"""What is installed and found, what is missing, and the command that fixes it."""

import os
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from cokv_bench.errors import RequestError
from cokv_bench.models import embedded
from cokv_bench.models.conversion import cache_folder
from cokv_bench.models.threads import choose
from cokv_bench.plugins import find, load
from cokv_bench.tasks.downloads import ENVIRONMENT

if TYPE_CHECKING:
    from cokv_bench.models import Model

_PACKAGES = (
    "cokv-bench",
    "torch",
    "transformers",
    "datasets",
    "rouge",
    "rouge-score",
    "fuzzywuzzy",
    "python-Levenshtein",
)


# Of NVIDIA, of AMD, and of Windows' subsystem for Linux.
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


@dataclass(frozen=True)
class Finding:
    """One line of the report; `mend` is empty where nothing needs to be done."""

    thing: str
    found: str
    mend: str = ""


def findings(plugin_files: Iterable[Path] = ()) -> Iterator[Finding]:
    """Check the installation; nothing is changed or downloaded.

    Args:
        plugin_files: files of plug-ins that are checked as well as those that are installed or in the environment.
    """
    yield Finding("Python", platform.python_version())
    for package in _PACKAGES:
        try:
            yield Finding(package, version(package))
        except PackageNotFoundError:
            yield Finding(package, "missing", "pip install -c constraints.txt -e .")
    cores, memory = psutil.cpu_count() or 1, psutil.virtual_memory()
    yield Finding("CPU", f"{cores} cores, {memory.available / 2**30:.1f} GiB of memory free")
    yield Finding("CPU threads", choose().told)
    yield Finding("GPU", ", ".join(_devices()) or "none; everything runs on the CPU")
    yield _embedded()
    yield _cache()
    yield _data()
    yield from _plugins(plugin_files)


def model_finding(name: str, load: "Callable[[], Model]") -> Finding:
    """Load a model and compare its logits with plain transformers', whatever a check said before."""
    from cokv_bench.kvcache.check import compare

    try:
        model = load()
        outcome = compare(model)
    except RequestError as error:
        return Finding(f"model {name}", str(error), "cokv-bench ls models")
    layers = (
        "all layers" if model.layers == model.network_layers else f"{model.layers} of {model.network_layers} layers"
    )
    heads = f"{model.kv_heads} KV head{'s' * (model.kv_heads > 1)}"
    return Finding(
        f"model {name}",
        f"works: its logits differ from plain transformers' by {outcome.difference:.1g} standard deviations (allowed: "
        f"{outcome.tolerance:.1g}); {layers} are evicted, with {heads} each; it is read "
        + ("layer by layer" if outcome.lean else "by its own forward pass"),
    )


def _devices() -> list[str]:
    # Importing torch takes seconds, and without a driver's device it finds nothing.
    if not any(Path(device).exists() for device in _DRIVERS):
        return []
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _embedded() -> Finding:
    folder = embedded.gguf_folder()
    if folder is None:
        return Finding("embedded model", "missing", embedded.INSTALL)
    return Finding("embedded model", f"smollm2-135m in {folder}")


def _cache() -> Finding:
    folder = cache_folder()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return Finding("cache folder", f"{folder} cannot be written", "export COKV_BENCH_CACHE=<a folder of yours>")
    return Finding("cache folder", str(folder))


def _data() -> Finding:
    place = os.environ.get(ENVIRONMENT)
    if place and Path(place).exists():
        return Finding("benchmark data", place)
    if place:
        return Finding("benchmark data", f"{ENVIRONMENT} names {place}, which does not exist", f"export {ENVIRONMENT}=")
    return Finding("benchmark data", f"not set; --data-dir or {ENVIRONMENT} names a copy, else the hub is asked")


def _plugins(files: Iterable[Path]) -> Iterator[Finding]:
    for plugin in find(files):
        try:
            load(plugin)
        except RequestError as error:
            yield Finding(
                "plug-in", str(error), f"leave {plugin.name} out" if plugin.file else f"pip uninstall {plugin.name}"
            )
        else:
            yield Finding("plug-in", plugin.name if plugin.file else f"{plugin.name} ({plugin.source})")
