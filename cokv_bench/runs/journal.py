"""A run's folder: its configuration, and one record for each example, method and budget."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.files import write_json
from cokv_bench.log import AppendLog, whole_lines

Key = tuple[str, str, str, int | None]


def record_key(record: dict[str, Any]) -> Key:
    """What makes a record one of a kind: task, example, method, budget."""
    return record["task"], record["example"], record["method"], record["budget"]


class Journal:
    """The records of one run, open for writing. A key that is there already is never written again."""

    def __init__(self, folder: Path, configuration: dict[str, Any], versions: dict[str, Any]) -> None:
        """Start a run in a folder, or go on with the one that is there.

        Raises:
            RequestError: the folder holds a run of another configuration, or cannot be written.
        """
        self.folder = folder
        self._log = AppendLog(folder / "records.jsonl")
        try:
            self._claim(configuration, versions)
            self.done = {record_key(record) for record in _parse(self._log.path, whole_lines(self._log.path))}
        except BaseException:
            self._log.close()
            raise

    def _claim(self, configuration: dict[str, Any], versions: dict[str, Any]) -> None:
        path = self.folder / "run.json"
        if not path.exists():
            write_json(path, {"configuration": configuration, "versions": versions})
            return
        found = read_run(self.folder)["configuration"]
        different = sorted(
            key for key in {*found, *configuration} if found.get(key) != json.loads(json.dumps(configuration.get(key)))
        )
        if different:
            raise RequestError(
                f"{self.folder} holds a run with other settings ({', '.join(different)}); name another folder."
            )

    def append(self, records: Iterable[dict[str, Any]]) -> None:
        """Add the records that are new, on disk before the call returns."""
        fresh = [record for record in records if record_key(record) not in self.done]
        # ASCII escapes carry what UTF-8 cannot, such as the lone surrogate of a damaged token.
        self._log.append("".join(json.dumps(record, allow_nan=False) + "\n" for record in fresh).encode())
        self.done.update(record_key(record) for record in fresh)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()


def read_run(folder: Path) -> dict[str, Any]:
    """The content of a run's `run.json`. Raises `RequestError` if there is none or it is damaged."""
    path = folder / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["configuration"]
    except OSError as error:
        raise RequestError(f"{folder} is not a run: {path.name} cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} is not the description of a run; restore it or choose another folder.") from error
    return content


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All records of a run, each key once, in the order written."""
    unique: dict[Key, dict[str, Any]] = {}
    path = folder / "records.jsonl"
    for record in _parse(path, whole_lines(path)):
        unique.setdefault(record_key(record), record)
    return list(unique.values())


def _parse(path: Path, data: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            record = json.loads(line)
            record_key(record)
        except (ValueError, KeyError, TypeError):
            raise RequestError(
                f"{path} line {number} is not a record; restore the file or start a new run elsewhere."
            ) from None
        yield record
