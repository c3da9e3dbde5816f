"""Cells and rows of tables, and values of keys."""

import re
from collections.abc import Callable
from functools import cache

from cokv_bench.tasks.recall.dice import Dice
from cokv_bench.tasks.recall.draft import BEGUN, LISTING, SHORT, Draft, asking
from cokv_bench.tasks.recall.facts import share
from cokv_bench.tasks.recall.fill import Words, write
from cokv_bench.tasks.recall.genres import Source
from cokv_bench.tasks.recall.listing import Listing

_PAIRS = ('\n"{key}": "{value}",', "\n{key} = {value}", "\n{key}: {value}", "\n{key} -> {value}", "\n[{key}] {value}")


def cell(source: Source) -> Draft:
    """A cell of the row that the question names. A unit is a row."""
    dice, rows = source.dice.of("cell"), Listing.drawn(source.words, source.dice.of("table"))
    row = rows.row("asked")
    key, column = row[rows.subject[0]], dice.pick(tuple(rows.columns))
    line = rows.line(row)
    start = _place(row[column], line)
    # Quotes and tabs before a cell go with it: the space before an answer is told from what it begins with.
    while line[start - 1] in '"\t':
        start -= 1
    return _lines(
        source,
        question=write(source.words.entry("rowcell", dice), {"key": key, "column": column}),
        answer=row[column],
        kind=rows.columns[column],
        line=line,
        start=start,
        head=rows.head,
        once=(row[column], key),
        other=lambda i: rows.line(rows.row(i)),
    )


def row(source: Source) -> Draft:
    """The whole row that the question names. A unit is a row."""
    dice, rows = source.dice.of("row"), Listing.drawn(source.words, source.dice.of("table"))
    cells = rows.row("asked")
    key, line = cells[rows.subject[0]], rows.line(cells)
    end = _place(key, line) + len(key)
    gap = re.search(r"\s", line[end:])
    return _lines(
        source,
        question=write(source.words.entry("rowwhole", dice), {"key": key}),
        answer=line.strip(),
        kind="row",
        line=line,
        start=end + gap.start() if gap else end,
        head=rows.head,
        once=(line.strip(), key),
        other=lambda i: rows.line(rows.row(i)),
    )


def pair(source: Source) -> Draft:
    """The value of the key that the question names. A unit is a pair of key and value."""
    words, dice = source.words, source.dice.of("pair")
    form, kind = dice.pick(_PAIRS), dice.pick(("number", "code", "uuid", "hex", "thing", "person"))
    make_key = dice.pick((_words_key, _code_key))

    def drawn(i: object) -> tuple[str, str]:
        own = source.dice.of("pairs", i)
        return make_key(words, own), words.value(kind, own)

    def line(key: str, value: str) -> str:
        return form.format(key=key, value=value)

    key, value = drawn("asked")
    asked = line(key, value)
    start = asked.rindex(value)
    return _lines(
        source,
        question=write(words.entry("pairvalue", dice), {"key": key}),
        answer=value,
        kind=f"value-{kind}",
        line=asked,
        start=start - (asked[start - 1] == '"'),
        head="",
        once=(value, key),
        other=lambda i: line(*drawn(i)),
    )


def _words_key(words: Words, dice: Dice) -> str:
    return "-".join(words.value(name, dice) for name in ("codeverb", "codeword", "codeword"))


def _code_key(words: Words, dice: Dice) -> str:
    return words.value("hex", dice)


def _place(cell: str, line: str) -> int:
    """Where a cell begins, which may also be a part of a longer word before it."""
    match = re.search(rf"(?<!\w){re.escape(cell)}(?!\w)", line)
    return line.index(cell) if match is None else match.start()


def _lines(
    source: Source,
    *,
    question: str,
    answer: str,
    kind: str,
    line: str,
    start: int,
    head: str,
    once: tuple[str, ...],
    other: Callable[[int], str],
) -> Draft:
    """Lines of which one is asked for, or begins again up to `start`."""
    ask, at = asking(source.words, source.dice, (SHORT, BEGUN, LISTING, LISTING)), share(source.dice.of("place"))
    kept = cache(other)

    def context(units: int) -> str:
        lines = [kept(i) for i in range(units)]
        lines.insert(int(at * (units + 1)), line)
        return ask.before + (head + "".join(lines)).strip()

    # Of a row all that follows is asked for, of others the answer and the quote before it.
    rest = line[start:] if kind == "row" else line[start : line.index(answer, start)] + answer
    return Draft(
        answers=(answer,) if ask.chat else (rest,),
        context=context,
        end=lambda units: ask.end(question=question, cloze=line[:start].strip(" \n")),
        kind=kind,
        genre="table",
        chat=ask.chat,
        facts=(line,),
        depth=at,
        once=once,
    )
