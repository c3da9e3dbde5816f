"""Lists as one argument of a command: entries with commas between them, those with a comma of their own in quotes."""

import re
from collections.abc import Iterable

# A quotation mark without its partner is a character like any other.
_ENTRY = re.compile(r'(?:"[^"]*"|[^,])+')
_QUOTES = re.compile(r'"([^"]*)"')


def split(text: str) -> list[str]:
    """The entries of a list, without the white space around them; a comma inside double quotes ends none.

    `needle,"jsonl:runs, old/rows.jsonl"` has two entries, and so has `needle,jsonl:"runs, old/rows.jsonl"`.
    """
    entries = (_QUOTES.sub(r"\1", entry.strip()) for entry in _ENTRY.findall(text))
    return [entry for entry in entries if entry]


def join(entries: Iterable[object]) -> str:
    """What `split` takes apart again."""
    return ",".join(f'"{entry}"' if "," in str(entry) else str(entry) for entry in entries)
