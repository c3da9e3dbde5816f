"""Rows in LongBench's schema, read from JSON Lines and checked."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import content_id
from cokv_bench.tasks.rows.records import jsonl_records

# Half of a pair that stands for one character: JSON can hold it alone, no tokenizer and no UTF-8 can.
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Row:
    """One checked row.

    Attributes:
        place: file and line (or row), for error messages.
        index: position among the rows of its file, from 0.
        answers: empty where the record has none.
        length: words of the context (characters in Chinese tasks), as the file states them.
        begun: how the answer begins, see `Example.begun`.
        max_new_tokens: of this row, where it has a number of its own.
        places: further texts by the names that a template has for them, such as the options of a choice.
    """

    place: str
    index: int
    input: str
    context: str
    answers: tuple[str, ...]
    all_classes: tuple[str, ...] | None
    length: int | None
    begun: str = ""
    max_new_tokens: int | None = None
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def document(self) -> str:
        """16 hex digits of the text that the row asks about: its context, or the input where that is empty."""
        return content_id(self.context if self.context.strip() else self.input)


def row_ids(rows: Sequence[Row]) -> list[str | None]:
    """The id of each row, None for a row that equals an earlier one in all its texts.

    It is `content_id(input, context)`, so that a row of trec and the same row of trec_e are one example. Where rows
    share both and differ in what is accepted, their answers become part of it (and their classes and further texts,
    where the answers are the same too), whatever order the rows are in.
    """
    groups: dict[tuple[str, str], set[tuple[tuple[str, ...], tuple[str, ...]]]] = {}
    for row in rows:
        groups.setdefault((row.input, row.context), set()).add((row.answers, _further(row)))
    found: list[str] = []
    for row in rows:
        kinds = groups[row.input, row.context]
        parts = [row.input, row.context]
        if len(kinds) > 1:
            parts += row.answers
        if sum(answers == row.answers for answers, _ in kinds) > 1:
            parts += ["", *_further(row)]
        found.append(content_id(*parts))
    first = {name: place for place, name in reversed(list(enumerate(found)))}
    return [name if first[name] == place else None for place, name in enumerate(found)]


def _further(row: Row) -> tuple[str, ...]:
    """What else tells rows apart that have the same answers."""
    return (*(row.all_classes or ()), *row.places.values())


def parse_jsonl(data: bytes, source: str) -> list[Row]:
    """Labelled rows of a JSON Lines file, in order; blank lines are passed over.

    Args:
        data: UTF-8.
        source: file name for error messages.

    Raises:
        RequestError: names the file, the line and the field that is wrong.
    """
    return [row_of(record, place, index) for index, (place, record) in enumerate(jsonl_records(data, source))]


def row_of(record: Mapping[str, Any], place: str, index: int, *, labelled: bool = True) -> Row:
    """A checked row from a record in LongBench's schema: input (or question), context, answers, classes, length.

    Lone halves of surrogate pairs, such as a cut emoji, are read as U+FFFD.

    Args:
        labelled: whether the record must have answers; else they may be left out or null.

    Raises:
        RequestError: a field is missing or has the wrong type.
    """
    # The column is called "question" in a mirror of the benchmark.
    input_field = "question" if "input" not in record and "question" in record else "input"
    return Row(
        place=place,
        index=index,
        input=_text(record, input_field, place),
        context=_text(record, "context", place),
        answers=_texts(record, "answers", place) if labelled or record.get("answers") is not None else (),
        all_classes=_texts(record, "all_classes", place) if record.get("all_classes") else None,
        length=_length(record, place),
    )


def _length(record: Mapping[str, Any], place: str) -> int | None:
    """Words, None where nothing is said; pandas makes numbers of a column with gaps floats, and the gaps NaN."""
    value = record.get("length")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or value < 0:
        raise RequestError(f"{place}: field 'length' must be a number of words, not {value!r:.60}.")
    return value


def _field(record: Mapping[str, Any], field: str, place: str) -> Any:
    if field not in record:
        raise RequestError(f"{place}: field '{field}' is missing.")
    return record[field]


def _text(record: Mapping[str, Any], field: str, place: str) -> str:
    value = _field(record, field, place)
    if not isinstance(value, str):
        raise RequestError(f"{place}: field '{field}' must be a text, not {_kind(value)}.")
    return _SURROGATE.sub("\ufffd", value)


def _texts(record: Mapping[str, Any], field: str, place: str) -> tuple[str, ...]:
    value = _field(record, field, place)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise RequestError(f"{place}: field '{field}' must be a list of at least one text, not {value!r:.60}.")
    return tuple(_SURROGATE.sub("\ufffd", item) for item in value)


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
