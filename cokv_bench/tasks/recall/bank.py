"""The words and wordings under `words/`, of which every split has its own."""

import re
from functools import cache
from importlib import resources

from cokv_bench.tasks.base import Split

_HEADER = re.compile(r"^\[(\w+)\]\n", re.MULTILINE)
# Every fifth entry is the report's, and the others are profile's and test's by turns.
_SIDES: tuple[Split, ...] = ("profile", "test", "profile", "test", "report")


@cache
def sections() -> dict[str, tuple[str, ...]]:
    """All lists by name, over all files.

    A list is headed by its name in brackets. Its entries are lines, in which `\\n` stands for a line break; those of
    words.txt have commas between them.
    """
    found: dict[str, tuple[str, ...]] = {}
    folder = resources.files(__package__).joinpath("words")
    for file in sorted((f for f in folder.iterdir() if f.name.endswith(".txt")), key=lambda f: f.name):
        _, *parts = _HEADER.split(file.read_text(encoding="utf-8"))
        for name, body in zip(parts[::2], parts[1::2], strict=True):
            if file.name == "words.txt":
                listed = [" ".join(entry.split()) for entry in body.split(",")]
            else:
                # A space at the beginning of a line is a part of it.
                listed = [line.replace("\\n", "\n") for line in body.split("\n")]
            found[name] = tuple(entry for entry in listed if entry)
    return found


@cache
def entries(name: str, split: Split) -> tuple[str, ...]:
    """The entries of a list that belong to a split, dealt by their places; a lone entry is a form and serves all."""
    listed = sections()[name]
    if len(listed) == 1:
        return listed
    return tuple(entry for place, entry in enumerate(listed) if _SIDES[place % len(_SIDES)] == split)
