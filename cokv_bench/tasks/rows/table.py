"""A table of rows: where it lies, which of its records count, and what its columns mean."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cokv_bench.errors import RequestError, quoted, unknown
from cokv_bench.tasks.rows.records import Record, read_records
from cokv_bench.tasks.rows.rows import Row, row_of

#: What a column can be to a row, with the names that it has where nobody says another. The first two are needed.
ROLES: Mapping[str, tuple[str, ...]] = {
    "context": ("context",),
    "input": ("input", "question"),
    "answers": ("answers", "answer"),
    "answer_prefix": ("answer_prefix",),
    "max_new_tokens": ("max_new_tokens",),
    "choices": (),
    "all_classes": ("all_classes",),
    "length": ("length",),
}
_NEEDED = ("context", "input")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows that lie in a file, a folder or on the hub.

    Attributes:
        source, config, split: as for `read_records`.
        where: columns and the values that records must have there to count.
        turns: a column with a list; each entry of it is a row, whose parts are named "COLUMN.part".
        columns: role or place of the template -> column, None for none. A column that no role has by default is named,
            and so is a part of one, as in "options.0". `choices` is a list that has the answer: its letter is then
            an answer too, and the first.
        strip: drop the white space around all texts.
    """

    source: str
    config: str | None = None
    split: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    turns: str | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    strip: bool = False

    @property
    def places(self) -> list[str]:
        """The places of a template besides {context} and {input}."""
        return [name for name in self.columns if name not in ROLES]

    def rows(self) -> list[Row]:
        """All rows that count, in file order, with or without answers.

        Raises:
            RequestError: as for `read_records`; a column that is missing or has the wrong type; no row that counts.
        """
        records = read_records(self.source, self.config, self.split)
        rows: list[Row] = []
        for place, record in self._turns(records):
            rows.append(self._row(record, place, len(rows)))
        if records and not rows:
            wanted = " and ".join(f"{column} = {value}" for column, value in self.where.items())
            raise RequestError(f"{self.source} has {len(records)} rows, but none of them with {wanted}.")
        return rows

    def _turns(self, records: list[tuple[str, Record]]) -> Iterator[tuple[str, Record]]:
        for place, record in records:
            if any(str(value_of(record, column, place)) != str(value) for column, value in self.where.items()):
                continue
            if self.turns is None:
                yield place, record
                continue
            turns = value_of(record, self.turns, place)
            if not isinstance(turns, list):
                raise RequestError(f"{place}: column '{self.turns}' must be a list of turns, not {quoted(turns)}.")
            for number, turn in enumerate(turns, start=1):
                yield f"{place}, turn {number}", {**record, self.turns: turn}

    def _row(self, record: Record, place: str, index: int) -> Row:
        found = {role: self._value(record, role, names, place) for role, names in ROLES.items()}
        found = {role: value for role, value in found.items() if role in _NEEDED or not _is_gap(value)}
        if "answers" in found:
            found["answers"] = _answers(found["answers"], found.get("choices"), place)
        if "length" in found:
            found["length"] = _whole(found["length"])
        texts = {name: value_of(record, str(self.columns[name]), place) for name in self.places}
        texts |= {role: found.pop(role) for role in ("answer_prefix",) if role in found}
        for name, value in texts.items():
            if not isinstance(value, str):
                raise RequestError(f"{place}: the column of '{name}' must be a text, not {quoted(value)}.")
        if self.strip:
            texts = {name: text.strip() for name, text in texts.items()}
            found |= {role: found[role].strip() for role in _NEEDED if isinstance(found[role], str)}
        row = row_of(found, place, index, labelled=False)
        return replace(
            row,
            begun=texts.pop("answer_prefix", ""),
            max_new_tokens=_count(found.get("max_new_tokens"), place),
            places=texts,
        )

    def _value(self, record: Record, role: str, names: tuple[str, ...], place: str) -> Any:
        """What a record has for a role; None where it has nothing, but for what every row needs."""
        if role in self.columns:
            column = self.columns[role]
            # Without a column of its own a part of the prompt is empty.
            return ("" if role in _NEEDED else None) if column is None else value_of(record, column, place)
        held = next((name for name in names if name in record), None)
        if held is None and role in _NEEDED:
            raise RequestError(f"{place}: field '{names[0]}' is missing.")
        return None if held is None else record[held]


def value_of(record: Record, column: str, place: str) -> Any:
    """The value of a column, or of a part of one, such as "options.0" or "turn.input".

    Raises:
        RequestError: there is no such column or part.
    """
    if column in record:
        return record[column]
    value: Any = record
    for part in column.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise RequestError(f"{place}: {unknown('column', column, record)}")
    return value


def _is_gap(value: Any) -> bool:
    """Whether a record says nothing there: null, NaN (pandas), or a blank text (an empty cell of CSV)."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip())


def _answers(value: Any, choices: Any, place: str) -> list[Any] | None:
    """Answers as a list of texts: a text or number alone is one answer, and that of a choice has a letter too.

    Gaps among them do not count, since an empty text stands in every prediction; None where nothing else is left.
    """
    values = value if isinstance(value, list) else [value]
    answers = [str(_whole(each)) if isinstance(each, int | float) else each for each in values if not _is_gap(each)]
    if values and not answers:
        return None
    if choices is None:
        return answers
    if not isinstance(choices, list) or not all(answer in choices for answer in answers):
        raise RequestError(f"{place}: the answer {quoted(value)} is not among the choices {quoted(choices)}.")
    return [*(_LETTERS[choices.index(answer)] for answer in answers), *answers]


def _count(value: Any, place: str) -> int | None:
    """A row's own number of new tokens."""
    if value is None:
        return None
    count = _whole(value)
    if type(count) is not int or count < 1:
        raise RequestError(f"{place}: column 'max_new_tokens' must be a number of at least 1, not {quoted(value)}.")
    return count


def _whole(value: Any) -> Any:
    """A whole number that is a text (CSV) or a float (pandas, in a column with gaps) as an integer; else the value."""
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        return value
    return int(number) if isinstance(number, float) and number.is_integer() else value
