"""Rows in LongBench's schema, read from JSON Lines and checked."""

import codecs
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cokv_bench.errors import RequestError


@dataclass(frozen=True)
class Row:
    """One checked row.

    Attributes:
        place: file and line (or row), for error messages.
        index: position among the rows of its file, from 0.
        answers: empty where the record has none.
        length: words of the context (characters in Chinese tasks), as the file states them.
    """

    place: str
    index: int
    input: str
    context: str
    answers: tuple[str, ...]
    all_classes: tuple[str, ...] | None
    length: int | None


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a file.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RequestError(f"Cannot read {path}: {error.strerror}.") from error


def parse_jsonl(data: bytes, source: str, *, labelled: bool = True) -> list[Row]:
    """Rows of a JSON Lines file, in order; blank lines are passed over.

    Args:
        data: UTF-8. Only line feeds end a line: texts hold U+2028 and the like, which `str.splitlines` would cut.
        source: file name for error messages.
        labelled: whether every row must have answers.

    Raises:
        RequestError: names the file, the line and the field that is wrong.
    """
    rows: list[Row] = []
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        if not line.strip():
            continue
        place = f"{source}, line {number}"
        try:
            record = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{place}: not a line of JSON in UTF-8 ({error}).") from error
        if not isinstance(record, dict):
            raise RequestError(f"{place}: must be a JSON object, not {_kind(record)}.")
        rows.append(row_of(record, place, len(rows), labelled=labelled))
    return rows


def row_of(record: Mapping[str, Any], place: str, index: int, *, labelled: bool = True) -> Row:
    """A checked row from a record with input (or question), context, answers, and perhaps all_classes and length.

    Args:
        labelled: whether the record must have answers; else they may be left out.

    Raises:
        RequestError: a field is missing or has the wrong type.
    """
    # The column is called "question" in a mirror of the benchmark.
    input_field = "question" if "input" not in record and "question" in record else "input"
    length = record.get("length")
    if length is not None and (type(length) is not int or length < 0):
        raise RequestError(f"{place}: field 'length' must be a number of words, not {length!r}.")
    return Row(
        place=place,
        index=index,
        input=_text(record, input_field, place),
        context=_text(record, "context", place),
        answers=_texts(record, "answers", place) if labelled or "answers" in record else (),
        all_classes=_texts(record, "all_classes", place) if record.get("all_classes") else None,
        length=length,
    )


def _field(record: Mapping[str, Any], field: str, place: str) -> Any:
    if field not in record:
        raise RequestError(f"{place}: field '{field}' is missing.")
    return record[field]


def _text(record: Mapping[str, Any], field: str, place: str) -> str:
    value = _field(record, field, place)
    if not isinstance(value, str):
        raise RequestError(f"{place}: field '{field}' must be a text, not {_kind(value)}.")
    return value


def _texts(record: Mapping[str, Any], field: str, place: str) -> tuple[str, ...]:
    value = _field(record, field, place)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise RequestError(f"{place}: field '{field}' must be a list of at least one text, not {value!r:.60}.")
    return tuple(value)


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
