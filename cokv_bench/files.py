"""Files that are whole or not there, and hashes of files."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cokv_bench.errors import RequestError, quoted

#: Characters of a line of JSON that is read by people.
_LINE = 120


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
    temporary = _temporary(target)
    held = (file.relative_to(target).as_posix() for file in target.rglob("*") if not file.is_dir())
    if stranger := next((file for file in held if file not in names), None):
        raise RequestError(
            f"The folder {target} holds {quoted(stranger)}, which is not written here; name another folder with --out."
        )
    earlier = target.with_name(f".{target.name}.{os.getpid()}.old")
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
    """Beside the target, so that it can take its place in one step.

    Raises:
        RequestError: the target has no name, such as "." or "/".
    """
    if target.name in ("", ".."):
        raise RequestError(f"{target} is a folder that is not written over; name a file or folder in it.")
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def write_json(path: str | Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file as `write_text` does.

    Raises:
        ValueError: a number in the document is not finite, which JSON cannot hold.
        RequestError: the folder cannot be written.
    """
    write_bytes(path, json_bytes(document))


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """The content of a JSON file, as few lines as fit into a screen's width.

    Raises `ValueError` for a number that is not finite.
    """
    # Keys of other types become text as JSON's rules have it.
    return (_lines(json.loads(json.dumps(document, allow_nan=False)), 0) + "\n").encode()


def _lines(value: Any, depth: int, before: str = "") -> str:
    """A value as JSON behind a text, indented by one space per level below its first line."""
    line = before + json.dumps(value, ensure_ascii=False)
    # A comma may follow.
    if depth + len(line) < _LINE or not isinstance(value, dict | list) or not value:
        return line
    margin = "\n" + " " * (depth + 1)
    if isinstance(value, dict):
        inner = [_lines(each, depth + 1, f"{json.dumps(key, ensure_ascii=False)}: ") for key, each in value.items()]
        return f"{before}{{{margin}" + f",{margin}".join(inner) + f"{margin[:-1]}}}"
    inner = [_lines(each, depth + 1) for each in value]
    if not any(isinstance(each, dict | list) for each in value):
        inner = _filled(inner, _LINE - depth - 2)
    return f"{before}[{margin}" + f",{margin}".join(inner) + f"{margin[:-1]}]"


def _filled(texts: Sequence[str], width: int) -> list[str]:
    """Texts with commas between them, as many to a line as fit."""
    lines = [texts[0]]
    for text in texts[1:]:
        if len(lines[-1]) + len(text) + 2 <= width:
            lines[-1] += f", {text}"
        else:
            lines.append(text)
    return lines


def file_sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
