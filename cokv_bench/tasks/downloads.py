"""Data of benchmarks: where it lies on this machine, and how it comes here."""

import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from cokv_bench.errors import RequestError, quoted, unknown
from cokv_bench.files import at_home, new_folder
from cokv_bench.hub import HubFile, fetch, parse
from cokv_bench.registries import FAMILIES
from cokv_bench.tasks.rows.records import copy_of

#: Names a folder for all commands, as --data-dir does for one.
ENVIRONMENT = "COKV_BENCH_DATA"


@dataclass(frozen=True)
class Download:
    """Data of a benchmark on the hub.

    Attributes:
        source: hf:OWNER/REPO[@REVISION][/FILE]. A .zip file is unpacked into a folder that is asked for.
        line: what it is.
        configs: configurations of the repository that are needed; none for all of its files.
    """

    source: str
    line: str
    configs: tuple[str, ...] = ()


def downloads() -> dict[str, Download]:
    """What can be fetched, by name."""
    return {name: each for family in FAMILIES.values() for name, each in family.downloads().items()}


def data_folder(benchmark: str, data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The folder or file that a user names for a benchmark, or its folder of that name; None where nobody names one.

    Args:
        data_dir: what the command line says; without it the environment variable COKV_BENCH_DATA counts.
    """
    named = data_dir or os.environ.get(ENVIRONMENT)
    if not named:
        return None
    folder = at_home(Path(named))
    return folder / benchmark if (folder / benchmark).is_dir() else folder


def fetch_data(name: str, out: Path | None = None) -> Path:
    """Download a benchmark's data into the hub's cache, and from there into a folder where one is named.

    Every file is compared with the hash that the hub announced. Downloads resume, and the folder is whole or not there.

    Returns:
        The folder for --data-dir.

    Raises:
        RequestError: an unknown name; what `fetch` refuses; a folder with other files; a zip file whose members would
            lie outside of the folder.
    """
    known = downloads()
    if name not in known:
        raise unknown("data", name, known)
    source = known[name].source
    named = parse(source, "dataset")
    if isinstance(named, HubFile):
        copy = fetch(named)
        if out is None:
            return copy.parents[named.file.count("/")]
        if copy.suffix == ".zip":
            _unpack(copy, out)
        else:
            _copy({named.file: copy}, out)
        return out
    folders = {copy_of(source, config) for config in known[name].configs or (None,)}
    folder = folders.pop()
    if out is None:
        return folder
    _copy({path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}, out)
    return out


def _copy(files: Mapping[str, Path], out: Path) -> None:
    with new_folder(out, files) as folder:
        for name, path in files.items():
            _write(path.open("rb"), folder / name)


def _unpack(archive: Path, out: Path) -> None:
    """The files of an archive, without a folder "data" around them."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = {_inside(each.filename, archive): each for each in opened.infolist() if not each.is_dir()}
            with new_folder(out, members) as folder:
                for name, member in members.items():
                    _write(opened.open(member), folder / name)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise RequestError(f"{archive} is not a readable zip file ({error}); delete it and fetch it again.") from error


def _inside(member: str, archive: Path) -> str:
    """The path of a member inside the folder. Raises `RequestError` where it would lie elsewhere."""
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts or "\\" in member or ":" in member:
        raise RequestError(
            f"{archive} has a member {quoted(member)}, which lies outside of the archive; do not use it."
        )
    return str(path.relative_to("data") if path.parts[0] == "data" and len(path.parts) > 1 else path)


def _write(source: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source as stream, target.open("wb") as written:
        shutil.copyfileobj(stream, written)
