"""Cells and rows of tables, and values of keys."""

import re
from collections.abc import Callable
from functools import cache

from cokv_bench.tasks.recall.dice import Dice
from cokv_bench.tasks.recall.draft import BEGUN, LISTING, SHORT, Draft, asking
from cokv_bench.tasks.recall.facts import share
from cokv_bench.tasks.recall.fill import Words, write
from cokv_bench.tasks.recall.genres import PROSE, Source, boxed, placed
from cokv_bench.tasks.recall.listing import Listing

_PAIRS = ('"{key}": "{value}",', "{key} = {value}", "{key}: {value}", "{key} -> {value}", "[{key}] {value}")


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
        other=rows.others({key, row[column]}),
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
        other=rows.others({key}),
    )


def pair(source: Source) -> Draft:
    """The value of the key that the question names, of four to ten in a text. A unit is one of the text around."""
    words, dice = source.words, source.dice.of("pair")
    form, kind = dice.pick(_PAIRS), dice.pick(("number", "code", "uuid", "hex", "thing", "person"))
    make_key = dice.pick((_words_key, _words_key, _code_key))
    held: dict[str, str] = {}
    for _ in range(4 + dice.below(7)):
        held[make_key(words, dice)] = words.value(kind, dice, held.values())
    lines = [form.format(key=key, value=value) for key, value in held.items()]
    place, at = dice.below(len(lines)), share(dice)
    key, value = list(held.items())[place]
    line = lines[place]
    start = line.rindex(value)
    start -= line[start - 1] == '"'
    ask = asking(words, source.dice, (SHORT, BEGUN, LISTING, LISTING))
    question = write(words.entry("pairvalue", dice), {"key": key})
    # The list again up to the answer, or its line alone.
    cloze = "\n".join([*(lines[:place] if ask.way == LISTING else []), line[:start].rstrip()])
    genre = dice.pick(tuple(PROSE))
    around, block = boxed(PROSE[genre](source.without({*held, *held.values()}))), "\n".join(lines)
    return Draft(
        answers=(value,) if ask.chat else (line[start : line.rindex(value)] + value,),
        context=lambda units: ask.before + placed(around, units, [block], [at]),
        end=lambda units: ask.end(question=question, cloze=cloze),
        kind=f"value-{kind}",
        genre=genre,
        chat=ask.chat,
        facts=(block,),
        depth=at,
        once=(value, key),
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
