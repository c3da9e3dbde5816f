"""A finished run as others may have it: settings and records, without texts of the examples and without paths."""

import gzip
import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cokv_bench.checks import one_of, problem, text
from cokv_bench.errors import RequestError, quoted
from cokv_bench.files import file_sha256, json_bytes
from cokv_bench.lists import join, split
from cokv_bench.log import json_line
from cokv_bench.runs.anonymous import anonymous, numbers_of
from cokv_bench.runs.finished import check_finished
from cokv_bench.runs.journal import SUBMISSION, read_records, read_run
from cokv_bench.units import FRACTION

RECORDS = "records.jsonl.gz"
_FORMAT = "1"
_NAME = re.compile(r"\w[\w.+-]{0,59}")
# Where a run was computed is the machine's, and decides no result.
_OF_THE_MACHINE = ("address", "out")
# Lists with commas of what may be files.
_LISTS = ("tasks",)


@dataclass(frozen=True)
class Finished:
    """A run that has all of its records.

    Attributes:
        name: of a submission; None of a run.
        description: its `run.json`.
        records: as `read_records` gives them.
    """

    name: str | None
    description: dict[str, Any]
    records: list[dict[str, Any]]


def check_name(name: str) -> None:
    """Raises `RequestError` unless a name is one word of at most 60 letters, digits, dots, hyphens and underscores."""
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"{quoted(name)} is no name of a submission; give --name one word of at most 60 letters, digits, dots, "
            "hyphens and underscores."
        )


def read_finished(folder: Path) -> Finished:
    """Read a run or a submission.

    Raises:
        RequestError: it is damaged, not finished, or a submission whose records are not those that were packed.
    """
    description, records = read_run(folder), read_records(folder)
    check_finished(folder, description["configuration"], records)
    told = description.get(SUBMISSION)
    if told is None:
        return Finished(None, description, records)
    found = problem(told, {"format": one_of(_FORMAT), "name": text, "records": text})
    if found:
        raise RequestError(f"{folder / 'run.json'} is not of a submission that this version reads: {found}.")
    check_name(told["name"])
    path = folder / RECORDS
    if not path.is_file() or file_sha256(path) != told["records"] or len(list(folder.glob("records*"))) > 1:
        raise RequestError(
            f"The records in {folder} are not those that were packed with its run.json; restore the folder, or pack "
            "the run again."
        )
    return Finished(told["name"], description, records)


def pack(folder: Path, name: str) -> dict[str, bytes]:
    """The files of a submission, the same bytes for the same run.

    Args:
        folder: of a finished run.
        name: by which others tell it from other submissions.

    Raises:
        RequestError: a name that is none, or what `read_finished` refuses.
    """
    check_name(name)
    run = read_finished(folder)
    scored = run.description["configuration"].get("utility") is None
    unit = {"unit": FRACTION} if scored else {}
    lines = b"".join(json_line({**numbers_of(record), **unit}) for record in run.records)
    packed = gzip.compress(lines, mtime=0)
    try:
        description = anonymous({key: value for key, value in run.description.items() if key != "request"})
        request = _request(run.description.get("request"))
    except KeyError as error:
        raise RequestError(
            f"{folder} names two files that would both be {quoted(error.args[0])} without their folders; rename one of "
            "them and run again."
        ) from None
    told = {"format": _FORMAT, "name": name, "records": hashlib.sha256(packed).hexdigest()}
    description = {**description, **({"request": request} if request else {}), SUBMISSION: told}
    card = _card(name, description, len(run.records))
    return {"README.md": card.encode(), "run.json": json_bytes(description), RECORDS: packed}


def _request(asked: Mapping[str, Any] | None) -> dict[str, Any]:
    """What was asked for, without the machine's part."""
    return {key: _anonymous(key, value) for key, value in (asked or {}).items() if key not in _OF_THE_MACHINE}


def _anonymous(option: str, value: Any) -> Any:
    """The value of an option without folders. A prompt's template is no path, whatever slashes it has."""
    if option == "template":
        return value
    return join(anonymous(split(value))) if option in _LISTS else anonymous(value)


def _card(name: str, description: Mapping[str, Any], records: int) -> str:
    settings, versions = description["configuration"], description.get("versions", {})
    model = settings["model"]
    measured = settings.get("utility") or "scores of generated answers"
    facts = {
        "Model": f"{model['id']}, weights {model.get('weights') or 'not hashed'}",
        "Dtype": settings.get("dtype", "unknown"),
        "Measured": measured,
        "Methods": ", ".join(f"`{method}`" for method in settings["methods"]),
        "Budgets": ", ".join(map(str, settings["budgets"])),
        "Split and seed": f"{settings['split']}, {settings['seed']}",
        "Question": "hidden" if settings.get("question_agnostic") else "known while the prompt is compressed",
        "Records": str(records),
        "Code": f"cokv-bench {versions.get('cokv-bench', 'unknown')}, revision {versions.get('git') or 'unknown'}",
    }
    lines = [f"# {name}", "", "A finished run of `cokv-bench eval`, packed by `cokv-bench submit`.", ""]
    lines += ["| | |", "| --- | --- |", *_rows(facts.items())]
    lines += ["", "| task | version | examples | hash of their ids |", "| --- | --- | --- | --- |"]
    tasks = settings["tasks"].items()
    lines += _rows((f"`{task}`", told.get("version"), told["examples"], told.get("ids")) for task, told in tasks)
    lines += ["", "The command that made it, with files named without their folders:", "", "```"]
    lines += [_command(description.get("request")), "```", ""]
    lines += [
        "- `run.json`: settings, versions, and hashes of the model, the examples and the head files.",
        f"- `{RECORDS}`: a line per example, method and budget with score, tokens, bytes and seconds. Examples are "
        "named by hashes of their texts.",
        "",
        "The folder holds no prompt, question, reference answer or generated answer. `cokv-bench leaderboard` compares "
        "it with other runs on the examples that they share.",
    ]
    return "\n".join(lines) + "\n"


def _rows(rows: Any) -> list[str]:
    return ["| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in rows]


def _command(request: Mapping[str, Any] | None) -> str:
    """The options of a run as they are typed."""
    if not request:
        return "(not kept by the version that made the run)"
    words: list[str] = []
    for option, value in request.items():
        for each in value if isinstance(value, list) else [value]:
            words += [f"--{option}"] if each is True else [f"--{option}", str(each)]
    return f"cokv-bench eval {shlex.join(words)}"
