"""Cells and rows of tables, and values of keys."""

from collections.abc import Callable
from functools import cache

from cokv_bench.tasks.recall.dice import Dice
from cokv_bench.tasks.recall.draft import Draft, asking
from cokv_bench.tasks.recall.facts import share
from cokv_bench.tasks.recall.fill import Words, write
from cokv_bench.tasks.recall.genres import Source
from cokv_bench.tasks.recall.listing import Listing

_PAIRS = (
    '\n"{key}": "{value}",',
    "\n{key} = {value}",
    "\n{key}: {value}",
    "\n{key} -> {value}",
    "\n<{key}>{value}</{key}>",
)


def cell(source: Source) -> Draft:
    """A cell of the row that the question names. A unit is a row."""
    words, dice = source.words, source.dice.of("cell")
    rows = Listing.drawn(words, source.dice.of("table"))
    row = rows.row("asked")
    key, column = row[rows.subject[0]], dice.pick(tuple(rows.columns))
    question = write(words.entry("rowcell", dice), {"key": key, "column": column})
    return _lines(
        source,
        dice,
        question,
        row[column],
        rows.columns[column],
        rows.line(row),
        key,
        rows.head,
        lambda i: rows.line(rows.row(i)),
    )


def row(source: Source) -> Draft:
    """The whole row that the question names. A unit is a row."""
    words, dice = source.words, source.dice.of("row")
    rows = Listing.drawn(words, source.dice.of("table"))
    cells = rows.row("asked")
    key = cells[rows.subject[0]]
    question = write(words.entry("rowwhole", dice), {"key": key})
    line = rows.line(cells)
    return _lines(source, dice, question, line.strip(), "row", line, key, rows.head, lambda i: rows.line(rows.row(i)))


def pair(source: Source) -> Draft:
    """The value of the key that the question names. A unit is a pair of key and value."""
    words, dice = source.words, source.dice.of("pair")
    form, kind = dice.pick(_PAIRS), dice.pick(("number", "code", "uuid", "hex", "thing", "person"))
    keys = dice.pick((_words_key, _code_key))

    def line(i: object) -> tuple[str, str, str]:
        own = source.dice.of("pairs", i)
        key, value = keys(words, own), words.value(kind, own)
        return form.format(key=key, value=value), key, value

    asked, key, value = line("asked")
    question = write(words.entry("pairvalue", dice), {"key": key})
    return _lines(source, dice, question, value, f"pair-{kind}", asked, key, "", lambda i: line(i)[0])


def _words_key(words: Words, dice: Dice) -> str:
    return "-".join(words.value(name, dice) for name in ("codeverb", "codeword", "codeword"))


def _code_key(words: Words, dice: Dice) -> str:
    return words.value("hex", dice)


def _lines(
    source: Source,
    dice: Dice,
    question: str,
    answer: str,
    kind: str,
    asked: str,
    key: str,
    head: str,
    line: Callable[[int], str],
) -> Draft:
    """Lines of which one is asked for."""
    ask, at, other = asking(source.words, source.dice), share(dice), cache(line)

    def context(units: int) -> str:
        lines = [other(i) for i in range(units)]
        lines.insert(int(at * (units + 1)), asked)
        return ask.before + (head + "".join(lines)).strip()

    return Draft(
        answers=(answer,),
        context=context,
        end=lambda units: ask.end(question=question),
        kind=kind,
        genre="table",
        chat=ask.chat,
        facts=(asked,),
        depth=at,
        once=(answer, key) if answer != asked.strip() else (answer,),
    )
