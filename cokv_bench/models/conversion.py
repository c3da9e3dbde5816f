"""Models that are converted once from files of other formats, and kept as folders in transformers' format."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cokv_bench.errors import RequestError

_UNFINISHED = "convert-"


def cache_folder() -> Path:
    """Where converted models are kept: `COKV_BENCH_CACHE`, else the user's cache folder."""
    own = os.environ.get("COKV_BENCH_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cokv-bench"


def convert_once(target: Path, convert: Callable[[Path], None]) -> Path:
    """A folder of the cache, made on first use.

    The model is written to a temporary folder, which gets its name once it is whole: whoever finds the name finds a
    whole model. Processes that want to convert at the same time wait for the first one and use its result; what a
    killed one left behind is removed by the next conversion.

    Args:
        target: the folder, in the cache folder or below it.
        convert: fills an empty folder with the model; `config.json` is among its files.

    Raises:
        RequestError: the cache folder cannot be written.
    """
    if _whole(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _turn(target.parent) as alone:
            if _whole(target):
                return target
            if alone:
                for left in target.parent.glob(f"{_UNFINISHED}*"):
                    shutil.rmtree(left, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=target.parent))
            try:
                convert(work)
                _give_name(work, target)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise RequestError(
            f"The cache folder {target.parent} cannot be written ({error.strerror or error}); set COKV_BENCH_CACHE to "
            "a folder of yours with room."
        ) from error
    return target


def _whole(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _give_name(work: Path, target: Path) -> None:
    try:
        os.replace(work, target)
    except OSError:
        # Where folders cannot be locked, another process may have finished the same conversion first.
        if not _whole(target):
            raise


@contextmanager
def _turn(folder: Path) -> Iterator[bool]:
    """Wait until no other process converts into a folder; gives whether that could be told.

    The system frees the lock of a process that dies.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # Some network file systems lock no folders; names are still given in one step.
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
