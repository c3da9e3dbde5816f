"""Where LongBench's rows come from: a folder, a data.zip, or the Hugging Face hub."""

import os
import zipfile
import zlib
from pathlib import Path

from cokv_bench.errors import RequestError, brief
from cokv_bench.hub import HubFile, fetch
from cokv_bench.tasks.downloads import ENVIRONMENT, data_folder
from cokv_bench.tasks.longbench.specs import PREFIX, spec_of
from cokv_bench.tasks.rows.records import read_bytes
from cokv_bench.tasks.rows.rows import Row, parse_jsonl

REPOSITORY = "THUDM/LongBench"
ARCHIVE = "data.zip"
_MEND = f"--data-dir or {ENVIRONMENT} must name a folder of <task>.jsonl files or a copy of LongBench's {ARCHIVE}"


def load_rows(task: str, data_dir: str | os.PathLike[str] | None = None) -> list[Row]:
    """The rows of a task, in file order.

    Args:
        task: plain name, such as "hotpotqa" or "hotpotqa_e".
        data_dir: a folder with `<task>.jsonl`, `data/<task>.jsonl` or a data.zip, or one with such a folder called
            longbench, or a zip file itself. Without it the environment variable COKV_BENCH_DATA counts, and without
            that the hub is asked.

    Raises:
        RequestError: unknown task, no data found or downloaded, or a malformed row.
    """
    spec_of(task)
    name = f"{task.removeprefix(PREFIX)}.jsonl"
    return _load(data_folder(PREFIX.rstrip("/"), data_dir) or download(), name)


def download() -> Path:
    """The official archive from the hub's cache, downloaded (about 110 MB) if it is not there.

    Raises:
        RequestError: the download failed.
    """
    try:
        return fetch(HubFile(REPOSITORY, ARCHIVE, kind="dataset"))
    except RequestError as error:
        reason = brief(error)
        raise RequestError(
            f"LongBench's {ARCHIVE} could not be downloaded from the hub ({reason}); without a network, {_MEND}."
        ) from error


def _load(root: Path, name: str) -> list[Row]:
    if root.is_file():
        return _from_archive(root, name)
    if not root.is_dir():
        raise RequestError(f"There is no folder or zip file '{root}'; {_MEND}.")
    for path in (root / name, root / "data" / name):
        if path.is_file():
            return parse_jsonl(read_bytes(path), str(path))
    if (root / ARCHIVE).is_file():
        return _from_archive(root / ARCHIVE, name)
    raise RequestError(f"There is no '{name}' in {root}, nor in its data folder or {ARCHIVE}; {_MEND}.")


def _from_archive(archive: Path, name: str) -> list[Row]:
    """Rows of one member, read in memory. Nothing is extracted, so a member's path never meets the file system."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in (f"data/{name}", name) if member in opened.NameToInfo]
            if not members:
                raise RequestError(f"There is no 'data/{name}' in {archive}; {_MEND}.")
            data = opened.read(members[0])
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise RequestError(f"{archive} is not a readable zip file ({error}); {_MEND}.") from error
    return parse_jsonl(data, f"{archive}/{members[0]}")
