"""A run's files without what belongs to a machine or to the data's owners: folders, and texts of examples."""

import re
from collections.abc import Mapping
from typing import Any

from cokv_bench.tasks.registry import family_of

# A path that starts at a root, a home folder, a drive or the working folder, and does not go on from a word, as names
# of tasks and hub ids do. Folders may be called anything, so it goes on to the end of the line.
_PATH = re.compile(r"(?:^|(?<=[\s,;=:('\"]))(?:~[^/\\,\s]*|\.{1,2}|[A-Za-z]:)?[/\\][^\n]*")
#: Texts of a record that name something; the others may quote an example.
_NAMES = ("task", "example", "question_ids", "method", "budget", "unit", "bucket")


def without_folders(text: str) -> str:
    """A text in which a path has its last part alone, such as "jsonl:rows.jsonl" of "jsonl:/home/ann/rows.jsonl".

    A line has one path at most. Relative paths that stay below the working folder are kept: they name files of a
    project.
    """
    return _PATH.sub(lambda found: re.split(r"[/\\]+", found[0].rstrip("/\\ "))[-1], text)


def anonymous(document: Any) -> Any:
    """A JSON document with `without_folders` in all of its texts and keys.

    Raises:
        KeyError: two keys of an object would be the same; the argument is what both would be called.
    """
    if isinstance(document, str):
        return without_folders(document)
    if isinstance(document, list):
        return [anonymous(each) for each in document]
    if not isinstance(document, dict):
        return document
    found = {without_folders(key): anonymous(value) for key, value in document.items()}
    if len(found) < len(document):
        names = [without_folders(key) for key in document]
        raise KeyError(next(name for name in names if names.count(name) > 1))
    return found


def numbers_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with its numbers and the names that tell what they are of, without answers and other texts."""
    names = {*_NAMES, family_of(record["task"]).length(record["task"])}
    kept = {key: value for key, value in record.items() if key in names or isinstance(value, int | float | None)}
    return {**kept, "task": without_folders(record["task"])}
