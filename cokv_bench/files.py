"""Files that are whole or not there, and hashes of files."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cokv_bench.errors import RequestError, quoted


def at_home(path: Path) -> Path:
    """A path that a user names, with the home folder for a leading "~".

    Raises:
        RequestError: "~name" of a user that the system does not know, or a name that no file can have.
    """
    try:
        found = path.expanduser()
        found.lstat()
    except RuntimeError:
        raise RequestError(f"The home folder in {path} is not known; write the whole path.") from None
    except ValueError as error:
        raise RequestError(f"{quoted(str(path))} is no path ({error}); name a file or folder.") from None
    except OSError as error:
        # Whether it is there, and may be read, is for those to say who know what it should be.
        if error.errno == errno.ENAMETOOLONG:
            raise RequestError(f"{quoted(str(path))} is no path ({error.strerror}); name a file or folder.") from None
    return found


def make_folder(path: str | Path) -> None:
    """Make a folder with those above it, where it is not there yet.

    Raises:
        RequestError: it cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"The folder {path} cannot be created ({error.strerror}).") from error


def check_target(path: str | Path) -> None:
    """Refuse a file that could not be written once the work for it is done; its folder is made, the file stays.

    Raises:
        RequestError: it is a folder, or its folder cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise RequestError(f"{target} is a folder; name a file to write.")
    make_folder(target.parent)
    temporary = _temporary(target)
    try:
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise RequestError(f"{target} cannot be written ({error.strerror}).") from error


def write_text(path: str | Path, text: str) -> None:
    """Replace `path` by `text` in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Replace `path` by `content` in one step, so that a crash leaves the old file or the new one.

    Raises:
        RequestError: the folder cannot be written.
    """
    target = Path(path)
    temporary = _temporary(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise RequestError(f"{target} cannot be written ({error.strerror}).") from error
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def write_folder(path: str | Path, files: Mapping[str, bytes]) -> None:
    """Make a folder of these files, as `new_folder` does.

    Args:
        files: content by the path inside the folder, with "/" between its parts.

    Raises:
        RequestError: as for `new_folder`.
    """
    with new_folder(path, files) as temporary:
        for name, content in files.items():
            write_bytes(temporary / name, content)


@contextmanager
def new_folder(path: str | Path, names: Collection[str]) -> Iterator[Path]:
    """A folder to fill, which takes its place at the end of the block, whole or not at all.

    An earlier one of no other files is replaced.

    Args:
        names: paths inside the folder of the files that the block writes, with "/" between their parts.

    Raises:
        RequestError: there is a file of that name or a folder with other files, or the folder cannot be written.
    """
    target = Path(path)
    if target.exists() and not target.is_dir():
        raise RequestError(f"{target} is a file; name a folder to write.")
    held = {file.relative_to(target).as_posix() for file in target.rglob("*") if not file.is_dir()}
    if not held <= set(names):
        raise RequestError(
            f"The folder {target} holds {quoted(min(held - set(names)))}, which is not written here; name another "
            "folder with --out."
        )
    temporary, earlier = _temporary(target), target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if target.exists():
            os.replace(target, earlier)
        os.replace(temporary, target)
    except OSError as error:
        if earlier.exists() and not target.exists():
            os.replace(earlier, target)
        raise RequestError(f"The folder {target} cannot be written ({error.strerror}).") from error
    finally:
        for left in (temporary, earlier):
            shutil.rmtree(left, ignore_errors=True)


def _temporary(target: Path) -> Path:
    """Beside the target, so that it can take its place in one step."""
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def write_json(path: str | Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file as `write_text` does.

    Raises:
        ValueError: a number in the document is not finite, which JSON cannot hold.
        RequestError: the folder cannot be written.
    """
    write_bytes(path, json_bytes(document))


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """The content of a JSON file. Raises `ValueError` for a number that is not finite."""
    return (json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def file_sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
