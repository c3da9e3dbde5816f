"""Records of tables as they lie in files, in folders and on the hub, before anybody asks what their columns mean."""

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from cokv_bench.errors import RequestError, brief, unknown
from cokv_bench.hub import HubFile, fetch, fetch_folder, list_files, on_hub, parse

Record = dict[str, Any]
#: What a repository says of its configurations.
CARD = "README.md"
#: The split that is read where nobody names one and there are several.
_SPLIT = "test"


def read_records(source: str, config: str | None = None, split: str | None = None) -> list[tuple[str, Record]]:
    """All records of a table, each with its place (file and line or row) for error messages.

    Args:
        source: a file (.jsonl, .json with a list, .csv, .parquet, the first three also as .gz), a folder that
            `datasets.save_to_disk` wrote or that is the copy of a repository, or hf:OWNER/REPO[@REVISION][/FILE].
        config: name of a configuration, which the card of a repository declares.
        split: by default "test", or the only one.

    Raises:
        RequestError: no such file, configuration or split, no network and no copy in the hub's cache, or content that
            cannot be read.
    """
    path = copy_of(source, config)
    if path.is_dir():
        return _folder(path, source, config, split)
    if config is not None or split is not None:
        raise RequestError(f"{source} is one file, which has no configurations or splits; leave out config and split.")
    return _file(path, source)


def jsonl_records(data: bytes, source: str) -> Iterator[tuple[str, Record]]:
    """The objects of JSON Lines in UTF-8, in order; blank lines are passed over.

    Only line feeds end a line: texts hold U+2028 and the like, which `str.splitlines` would cut.

    Raises:
        RequestError: names the file and the line that is wrong.
    """
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        if line.strip():
            place = f"{source}, line {number}"
            try:
                record = json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                raise RequestError(f"{place}: not a line of JSON in UTF-8 ({error}).") from error
            yield place, _object(record, place)


def read_bytes(path: Path | str) -> bytes:
    """The content of a file, of a .gz file what it holds.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        content = Path(path).read_bytes()
        return gzip.decompress(content) if Path(path).suffix == ".gz" else content
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise RequestError(f"{path} is not a whole gzip file ({error}).") from error
    except OSError as error:
        raise RequestError(f"Cannot read {path}: {error.strerror}.") from error


def copy_of(source: str, config: str | None) -> Path:
    """Where a source, or a configuration of it, lies on this machine; what is on the hub is fetched into its cache.

    Raises:
        RequestError: as for `read_records`.
    """
    if not on_hub(source):
        return Path(source)
    named = parse(source, "dataset")
    if isinstance(named, HubFile):
        return fetch(named)
    if CARD not in list_files(named):
        return fetch_folder(named, ["*"])
    files = _data_files(fetch_folder(named, [CARD]) / CARD, source, config)
    return fetch_folder(
        named, ["*"] if files is None else [CARD, *(each for split in files.values() for each in split)]
    )


def _folder(path: Path, source: str, config: str | None, split: str | None) -> list[tuple[str, Record]]:
    """The records of one split of a folder."""
    files = _data_files(path / CARD, source, config) if (path / CARD).is_file() else None
    if files is None:
        if config is not None:
            raise RequestError(f"{source} declares no configurations, so there is no '{config}'; leave out config.")
        return _data_set(path, source, split)
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    found = [
        name for name in names if any(fnmatch(name, form) for form in files[_split_of(list(files), source, split)])
    ]
    if not found:
        raise RequestError(f"{source} has none of the files that its {CARD} names for this split; fetch them again.")
    return [each for name in found for each in _file(path / name, f"{source}/{name}")]


def _data_files(card: Path, source: str, config: str | None) -> dict[str, list[str]] | None:
    """The files of a configuration, patterns by split, as the card declares them; None where it declares nothing.

    Raises:
        RequestError: there is no such configuration, or there are several and none is named.
    """
    from huggingface_hub import metadata_load

    try:
        declared = (metadata_load(card) or {}).get("configs") or []
        known = {str(each["config_name"]): each["data_files"] for each in declared if "data_files" in each}
    except Exception as error:  # YAML of somebody else, read by a library.
        raise RequestError(f"The {CARD} of {source} cannot be read ({brief(error)}).") from error
    if not known:
        return None
    if config is None:
        if len(known) > 1 and "default" not in known:
            raise RequestError(f"{source} has several configurations ({_some(known)}); name one as config.")
        config = "default" if "default" in known else next(iter(known))
    if config not in known:
        raise unknown(f"configuration of {source}", config, known)
    entries = known[config]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return {"train": _patterns(entries)}
    return {str(entry["split"]): _patterns(entry["path"]) for entry in entries}


def _patterns(paths: str | list[str]) -> list[str]:
    return [paths] if isinstance(paths, str) else list(paths)


def _split_of(splits: list[str], source: str, split: str | None) -> str:
    """The split that is meant. Raises `RequestError` where there is none of that name, or several and none is named."""
    if split is not None:
        if split not in splits:
            raise unknown(f"split of {source}", split, splits)
        return split
    if _SPLIT not in splits and len(splits) != 1:
        raise RequestError(f"{source} has no split '{_SPLIT}' but several others: {_some(splits)}.")
    return _SPLIT if _SPLIT in splits else splits[0]


def _data_set(path: Path, source: str, split: str | None) -> list[tuple[str, Record]]:
    """One split of a folder that the datasets library reads."""
    import datasets  # On first use: importing it takes over a second.

    def read() -> Any:
        if any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
            return datasets.load_from_disk(str(path))
        return datasets.load_dataset(str(path))

    found = _with_datasets(read, source)
    if isinstance(found, datasets.DatasetDict):
        found = found[_split_of(list(found), source, split)]
    elif split is not None:
        raise RequestError(f"{source} has no splits; leave out split.")
    return _numbered(_with_datasets(lambda: list(found), source), source)  # Texts are decoded no sooner.


def _file(path: Path, source: str) -> list[tuple[str, Record]]:
    """The records of one file, by what its name ends in."""
    kind = Path(source.removesuffix(".gz")).suffix
    if kind == ".parquet":
        return _parquet(path, source)
    if kind == ".csv":
        return _csv(path, source)
    data = read_bytes(path)
    if kind != ".json":
        return list(jsonl_records(data, source))
    try:
        records = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{source} is not JSON in UTF-8 ({brief(error)}).") from error
    if not isinstance(records, list):
        raise RequestError(
            f"{source} must hold a list of objects; write one object per line into a .jsonl file instead."
        )
    return _numbered(records, source)


def _parquet(path: Path, source: str) -> list[tuple[str, Record]]:
    import datasets

    def read() -> list[Any]:
        return list(datasets.load_dataset("parquet", data_files=str(path), split="train"))

    return _numbered(_with_datasets(read, source), source)


def _csv(path: Path, source: str) -> list[tuple[str, Record]]:
    """Every cell as a text, empty where it is empty."""
    import pandas as pd

    try:
        frame = pd.read_csv(io.BytesIO(read_bytes(path)), dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise RequestError(f"{source} is not a CSV file in UTF-8 ({brief(error)}).") from error
    return _numbered(frame.to_dict("records"), source)


def _with_datasets(read: Any, source: str) -> Any:
    try:
        return read()
    except Exception as error:  # Network, format, disk: many types, one mend.
        raise RequestError(f"Cannot read the data set {source} with the datasets library ({brief(error)}).") from error


def _numbered(records: list[Any], source: str) -> list[tuple[str, Record]]:
    places = (f"{source}, row {index}" for index in range(len(records)))
    return [(place, _object(record, place)) for place, record in zip(places, records, strict=True)]


def _object(record: Any, place: str) -> Record:
    if not isinstance(record, dict):
        raise RequestError(
            f"{place}: must be a JSON object, not {'null' if record is None else type(record).__name__}."
        )
    return record


def _some(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
