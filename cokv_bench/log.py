"""A file of lines that is only ever added to, by one process at a time, and survives a crash."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from cokv_bench.errors import RequestError


def whole_lines(path: Path) -> bytes:
    """The bytes of a log up to its last newline; what follows was cut off by a crash and does not count.

    Reading needs no lock, also while another process appends.

    Raises:
        RequestError: the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}).") from None
    return data[: data.rfind(b"\n") + 1]


class AppendLog:
    """A log open for appending, for this process alone until `close`. Use it as a context manager.

    Nothing is changed by opening: the torn last line of a crash goes with the first `append`.

    Attributes:
        path: the file.
        data: its bytes when it was opened, a torn last line included.
    """

    def __init__(self, path: Path) -> None:
        """Open or create a file.

        Raises:
            RequestError: it cannot be written, or another process is writing it.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RequestError(f"{path} cannot be written ({error.strerror}).") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise RequestError(f"Another process is writing to {path}; wait for it or stop it.") from None
        self.data = path.read_bytes()
        self._size = self.data.rfind(b"\n") + 1

    def append(self, lines: bytes) -> None:
        """Add whole lines and return once they are on the disk; after an error none of them is there.

        Raises:
            RequestError: the log is closed, or the disk does not take the lines.
        """
        if self._descriptor is None:
            raise RequestError(f"{self.path} is not open for writing.")
        try:
            # Cutting first removes what a crash, or a full disk before this call, left behind the last whole line.
            os.ftruncate(self._descriptor, self._size)
            os.lseek(self._descriptor, self._size, os.SEEK_SET)
            view = memoryview(lines)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, self._size)
            raise RequestError(f"{self.path} cannot be written ({error.strerror}).") from None
        except BaseException:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(lines)

    def close(self) -> None:
        """Give up the file and its lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "AppendLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
