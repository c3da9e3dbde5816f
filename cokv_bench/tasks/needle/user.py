"""Needles from a user's JSONL file."""

import json
from pathlib import Path
from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import Split, content_id, side_of
from cokv_bench.tasks.made.words import normalise
from cokv_bench.tasks.needle.bank import Needle

PROFILE_SHARE = 0.3


def read_needles(path: str | Path) -> dict[Split, list[Needle]]:
    """The needles of a file by split, in file order without repeats.

    Each line is an object with the fields needle, question and answer (a text or a list of texts). A hash of
    the line's content decides its split: "profile" (3 in 10), "report" (2) or "test". Raises RequestError where a line
    is malformed, or "profile" or "test" stays empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"Needle file '{path}' is not readable as UTF-8 text; give a JSONL file.") from error
    found: dict[str, Needle] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            needle = _parse(line, f"Needle file '{path}', line {number}")
            found[needle.id] = needle
    sides: dict[Split, list[Needle]] = {"profile": [], "test": [], "report": []}
    for needle in found.values():
        sides[side_of(needle.id, profile_share=PROFILE_SHARE)].append(needle)
    needed: tuple[Split, ...] = ("profile", "test")
    for split in needed:
        if not sides[split]:
            raise RequestError(
                f"Needle file '{path}' has {len(found)} different needle(s) and none of them falls to the "
                f"{split} split, but at least 2 are needed, one for profile and one for test; add needles (about 3 in "
                "10 fall to profile and 2 to report)."
            )
    return sides


def _parse(line: str, place: str) -> Needle:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{place} is not valid JSON ({error}); write one JSON object per line.") from error
    if not isinstance(row, dict):
        raise RequestError(f"{place} is not a JSON object; give the fields needle, question and answer.")
    for name in ("needle", "question"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise RequestError(f"{place} has no text in the field '{name}'; give one sentence there.")
    answers = row.get("answer")
    answers = [answers] if isinstance(answers, str) else answers
    # An answer of punctuation alone would be empty once normalised, and could never be found.
    if not isinstance(answers, list) or not answers or not all(map(_is_answer, answers)):
        raise RequestError(f"{place} has no usable field 'answer'; give a text with a word in it, or a list.")
    needle, question = row["needle"].strip(), row["question"].strip()
    first, *others = answers
    return Needle(content_id(needle, question, *answers), needle, question, first, "user", "user", tuple(others))


def _is_answer(value: object) -> bool:
    return isinstance(value, str) and bool(normalise(value))
