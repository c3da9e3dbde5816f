"""A run's folder: its configuration, and one record for each example, method and budget."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cokv_bench.budget import Budget, read
from cokv_bench.checks import strict_loads
from cokv_bench.errors import RequestError, quoted
from cokv_bench.files import write_json
from cokv_bench.log import AppendLog, check_settings, take_lines, whole_lines
from cokv_bench.policies.names import place
from cokv_bench.runs.checked import record_problem, run_problem
from cokv_bench.runs.contents import as_kept
from cokv_bench.runs.examples import EXAMPLES
from cokv_bench.runs.shards import Shard
from cokv_bench.units import FRACTION, NATS, UTILITY

#: Task, example, method, budget, as records have them.
Key = tuple[str, str, str, int | str | None]

#: The key of run.json that a submission has beyond those of a run.
SUBMISSION = "submission"
#: Units of the utilities whose records named none.
_EARLIER = {"loglik": NATS, "agreement": NATS}


def record_key(record: dict[str, Any]) -> Key:
    """What makes a record one of a kind: task, example, method, budget."""
    return record["task"], record["example"], record["method"], record["budget"]


class Journal:
    """The records of one run, open for writing. A key that is there already is never written again.

    Shards write to a file each and may do so at the same time; all of them read all files.
    """

    def __init__(
        self,
        folder: Path,
        configuration: dict[str, Any],
        versions: dict[str, Any],
        shard: Shard | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> None:
        """Start a run in a folder, or resume the one that is there.

        Args:
            request: what was asked for, by the names of the options; kept for whoever asks for it again.

        Raises:
            RequestError: the folder holds a run of another configuration or a submission, or cannot be written.
        """
        self.folder, self._shard, self._started = folder, shard, False
        # Before any file is made: a folder that is refused stays as it is.
        if (folder / "run.json").exists():
            _check_own(folder, configuration)
        name = "records.jsonl" if shard is None else f"records-{shard.number}of{shard.count}.jsonl"
        self._log = AppendLog(folder / name)
        try:
            self._claim(
                {"configuration": configuration, "versions": versions, **({"request": request} if request else {})}
            )
            self.done = {record_key(record) for record in _all_records(folder)}
        except BaseException:
            self._log.close()
            raise

    def _claim(self, content: Mapping[str, Any]) -> None:
        path = self.folder / "run.json"
        if not path.exists():
            # Of several shards that start at once, each writes the same configuration.
            write_json(path, content)
            self._started = True
        _check_own(self.folder, content["configuration"])

    def append(self, records: Iterable[dict[str, Any]]) -> None:
        """Add the records that are new, on disk before the call returns."""
        fresh: dict[Key, dict[str, Any]] = {}
        for record in records:
            if record_key(record) not in self.done:
                fresh.setdefault(record_key(record), record)
        self._log.append(fresh.values())
        self.done.update(fresh)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._log.close()
        # A run that was refused at its first example leaves nothing that another would have to fit. But another shard
        # may be about to write what fits it.
        if kind is not None and self._started and not self.done and self._shard is None:
            for path in (self._log.path, self.folder / EXAMPLES, self.folder / "run.json"):
                path.unlink(missing_ok=True)
            with suppress(OSError):
                self.folder.rmdir()


def _check_own(folder: Path, configuration: Mapping[str, Any]) -> None:
    """Refuse a folder whose run cannot be resumed with this configuration."""
    found = read_run(folder)
    if SUBMISSION in found:
        raise RequestError(
            f"{folder} holds a submission, whose records stay as they were packed; choose another folder with --out."
        )
    kept = found["configuration"]
    check_settings(folder, kept, as_kept(configuration, kept))


def read_run(folder: Path) -> dict[str, Any]:
    """The content of a run's `run.json`, its settings checked. Raises `RequestError` if it is damaged or missing."""
    path = folder / "run.json"
    try:
        content = strict_loads(path.read_bytes())
    except OSError as error:
        raise RequestError(f"{folder} is not a run: {path.name} cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise RequestError(f"{path} is not JSON ({error}); restore it or choose another folder.") from None
    found = run_problem(content)
    if found:
        raise RequestError(f"{path} does not describe a run: {found}; restore it or choose another folder.")
    return dict(content)


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All records of a run, each key once, by task, method, budget and example, in whatever order they were written.

    Raises:
        RequestError: a damaged line, a record of a task, method or budget that the run does not have, or records in
            units that are not the run's.
    """
    unique: dict[Key, dict[str, Any]] = {}
    for record in _all_records(folder):
        unique.setdefault(record_key(record), record)
    if not unique:
        return []
    settings = read_run(folder)["configuration"]
    for what in ("task", "method", "budget"):
        # The full cache has no budget, and only that (see `record_problem`).
        found = {record[what] for record in unique.values() if record[what] is not None}
        strange = sorted(found - set(settings[f"{what}s"]), key=str)
        if strange:
            raise RequestError(
                f"{folder} has records of the {what} {quoted(strange[0])}, which its run.json does not list; "
                "restore one of the two files."
            )
    tasks = {name: number for number, name in enumerate(settings["tasks"])}
    methods = {name: place(name) for name in settings["methods"]}

    def order(key: Key) -> tuple[int, int, str, Budget, str]:
        task, example, method, budget = key
        return tasks.get(task, len(tasks)), methods[method], method, read(budget) or 0, example

    records = [_in_its_unit(unique[key], settings.get("utility")) for key in sorted(unique, key=order)]
    units = {record.get("unit", FRACTION) for record in records}
    if len(units) > 1 or (settings.get("utility") is None and units != {FRACTION}):
        raise RequestError(
            f"{folder} has records in {' and in '.join(quoted(unit) for unit in sorted(units))}; a run has one unit, "
            f"'{FRACTION}' unless its run.json names a utility. Restore run.json or the records."
        )
    return records


def _in_its_unit(record: dict[str, Any], utility: str | None) -> dict[str, Any]:
    """A record whose score is in the unit that it names; earlier versions kept a utility as a hundredth of itself."""
    if utility is None or "unit" in record:
        return record
    return {**record, "score": 100 * record["score"], "unit": _EARLIER.get(utility, UTILITY)}


def _all_records(folder: Path) -> list[dict[str, Any]]:
    """Records of all files, of the same key perhaps several."""
    found: list[dict[str, Any]] = []
    # Without a run.json they belong to no run, which whoever reads them is told.
    scored = (folder / "run.json").exists() and read_run(folder)["configuration"].get("utility") is None

    def take(record: Any) -> str | None:
        wrong = record_problem(record, scored)
        found.append(record)
        return wrong and f"is not a record: {wrong}"

    # A finished run's may be compressed; a run that goes on writes another file.
    paths = [*folder.glob("records*.jsonl"), *folder.glob("records*.jsonl.gz")]
    for path in sorted(paths) or [folder / "records.jsonl"]:
        take_lines(path, whole_lines(path), take)
    return found
