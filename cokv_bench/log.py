"""Files of JSON lines that are only ever added to, by one process at a time, and survive a crash.

The first line of a `HeadedLog` says what the others are. A run says it once for all of its files, in run.json; both
refuse to be resumed with other settings in the same sentence.
"""

import fcntl
import gzip
import json
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from cokv_bench.checks import Check, problem, strict_loads
from cokv_bench.errors import LONGEST, RequestError, quoted

# Bytes that a compressed log may unpack to.
_LARGEST = 2 * 2**30
# How much a refusal tells, the most first: settings by name, and characters of each of their values.
_TOLD = ((3, 60), (3, 30), (3, 20), (2, 20), (1, 40), (1, 20))


class UnfitLogError(RequestError):
    """A log is damaged, of other settings, or something else altogether."""


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a log; what follows its last newline was cut off by a crash and does not count.

    Reading needs no lock, also while another process appends. A file called `.gz` is unpacked in memory.

    Raises:
        RequestError: the file cannot be read, or unpacked to a size that a log may have.
    """
    try:
        return (_unpacked(path) if path.suffix == ".gz" else path.read_bytes()).split(b"\n")[:-1]
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror or error}).") from None


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as stream:
            content = stream.read(_LARGEST + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RequestError(f"{path} is no whole gzip file ({error}); restore a copy.") from None
    if len(content) > _LARGEST:
        raise RequestError(f"{path} unpacks to more than {_LARGEST >> 30} GiB; unpack it yourself if you trust it.")
    return content


def take_lines(path: Path, lines: Iterable[bytes], take: Callable[[Any], str | None], first: int = 1) -> None:
    """Hand the records of a log over, one after the other.

    Args:
        path: of the log.
        take: gets a record, and gives what is wrong with it, None for a good one.
        first: number of the first line.

    Raises:
        UnfitLogError: a line that is not JSON or not taken, which is named.
    """
    for number, line in enumerate(lines, start=first):
        try:
            record = strict_loads(line)
        except ValueError:
            wrong: str | None = "is not a line of JSON"
        else:
            wrong = take(record)
        if wrong:
            raise UnfitLogError(
                f"{path}, line {number} {wrong}; the file is damaged: restore a copy, or cut it before that line."
            )


def json_line(record: Mapping[str, Any]) -> bytes:
    """A record as a line of a log.

    Raises:
        ValueError: a number that is not finite.
    """
    # ASCII escapes carry what UTF-8 cannot, such as the lone surrogate of a damaged token.
    return (json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n").encode()


def differences(found: Any, wanted: Any, path: str = "", width: int = 60) -> list[str]:
    """What differs between two JSON documents, a phrase per value: where, what was found and what is wanted.

    Args:
        path: of the documents, within larger ones.
        width: most characters of a value; of longer ones the phrase has what is around the first difference.
    """
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = dict.fromkeys([*found, *wanted])
        parts = [differences(found.get(key), wanted.get(key), f"{path}.{key}" if path else key, width) for key in keys]
        return [phrase for part in parts for phrase in part]
    if found == wanted:
        return []
    there, here = ("absent" if value is None else json.dumps(value, ensure_ascii=False) for value in (found, wanted))
    alike = next((place for place, (one, other) in enumerate(zip(there, here, strict=False)) if one != other), 0)
    return [f"{path} is {_around(there, alike, width)} there and {_around(here, alike, width)} here"]


def _around(text: str, place: int, width: int) -> str:
    start = max(0, min(place - width // 3, len(text) - width))
    return "..." * (start > 0) + text[start : start + width] + "..." * (start + width < len(text))


def check_settings(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to resume what has other settings; they are compared as JSON, where absent is null and tuples are lists.

    Raises:
        UnfitLogError: the settings that differ, with both values; at most three of them, and how many more.
    """
    ours = json.loads(json.dumps(wanted))
    for most, width in _TOLD:
        told = differences(found, ours, width=width)
        if not told:
            return
        more = f" and {len(told) - most} more" if len(told) > most else ""
        sentence = f"{path} has other settings: {'; '.join(told[:most])}{more}; use the same or another folder."
        if len(sentence) <= LONGEST:
            break
    raise UnfitLogError(sentence)


class AppendLog:
    """A file open for appending, for this process alone until `close`. Use it as a context manager.

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

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add records, a line each, and return once they are on the disk; after an error none of them is there.

        Raises:
            RequestError: the log is closed, or the disk does not take the lines.
        """
        if self._descriptor is None:
            raise RequestError(f"{self.path} is not open for writing.")
        lines = b"".join(map(json_line, records))
        try:
            # Cutting first removes what a crash, or a full disk before this call, left behind the last whole line.
            os.ftruncate(self._descriptor, self._size)
            os.lseek(self._descriptor, self._size, os.SEEK_SET)
            view = memoryview(lines)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fsync(self._descriptor)
        except BaseException as error:
            os.ftruncate(self._descriptor, self._size)
            if isinstance(error, OSError):
                raise RequestError(f"{self.path} cannot be written ({error.strerror}).") from None
            raise
        self._size += len(lines)

    def close(self) -> None:
        """Give up the file and its lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HeadedLog(ABC):
    """A log whose first line has its kind, its schema and its settings. Use it as a context manager.

    A subclass names the kind and takes the records; one that sets attributes for them calls `super().__init__` last.

    Attributes:
        kind: as the first line has it, such as "search-ledger".
        schema: version of the format.
        fields: the settings that its readers use, with their checks.
        path: the file.
        settings: what the first line says beyond kind and schema.
    """

    kind: ClassVar[str]
    schema: ClassVar[int]
    fields: ClassVar[Mapping[str, Check]]

    def __init__(
        self, path: Path, lines: list[bytes], wanted: Mapping[str, Any] | None = None, log: AppendLog | None = None
    ) -> None:
        """Take the lines of a file; see `resume` and `read`."""
        self.path, self._log = path, log
        self.settings = self._header(lines[0] if lines else b"")
        if wanted is not None:
            check_settings(path, self.settings, wanted)
        take_lines(path, lines[1:], self.take, first=2)

    @classmethod
    def resume(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """Start a log, or resume one of the same settings, for this process alone until `close`.

        Raises:
            UnfitLogError: the file is damaged, of something else, or of other settings (see `check_settings`).
            RequestError: it cannot be written, or another process is writing it.
        """
        log = AppendLog(path)
        try:
            lines = log.data.split(b"\n")[:-1]
            if not lines:
                header = {"kind": cls.kind, "schema": cls.schema, **settings}
                if not json_line(header).startswith(log.data):
                    raise cls._foreign(path)
                wrong = problem(json.loads(json.dumps(settings)), cls.fields)
                if wrong:
                    raise RequestError(f"{path} cannot be begun: {wrong}.")
                log.append([header])
                lines = [json_line(header)]
            return cls(path, lines, settings, log)
        except BaseException:
            log.close()
            raise

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a log without a lock, also while another process appends; a torn last line is left out.

        Raises:
            RequestError: no such file; `UnfitLogError`: it is damaged or of something else.
        """
        return cls(Path(path), whole_lines(Path(path)))

    @abstractmethod
    def take(self, record: Any) -> str | None:
        """Remember a record; what is wrong with it, None for a good one."""

    def write(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add records; they are on the disk when the call returns.

        Raises:
            RequestError: the log is not open for writing, or the disk does not take them.
        """
        if self._log is None:
            raise RequestError(f"{self.path} is not open for writing.")
        self._log.append(records)

    def close(self) -> None:
        """Give up the lock; what was read stays."""
        if self._log is not None:
            self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _header(self, line: bytes) -> dict[str, Any]:
        try:
            header = strict_loads(line)
            # Half a character could be written to no other file.
            json.dumps(header, ensure_ascii=False).encode()
        except ValueError:
            header = None
        if not isinstance(header, dict) or header.pop("kind", None) != self.kind:
            raise self._foreign(self.path)
        schema = header.pop("schema", None)
        if type(schema) is not int or schema != self.schema:
            raise UnfitLogError(
                f"{self.path} has schema version {quoted(schema)}; this release reads version {self.schema}."
            )
        if problem(header, self.fields):
            raise self._foreign(self.path)
        return header

    @classmethod
    def _foreign(cls, path: Path) -> UnfitLogError:
        return UnfitLogError(
            f"{path} does not begin with the header of a {cls.kind}; move it away or choose another folder."
        )
