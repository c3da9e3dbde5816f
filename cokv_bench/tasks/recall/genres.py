"""The texts in which facts stand: essays, and seven genres that grammars under `words/` write without end."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from cokv_bench.tasks.made.haystack import Haystack
from cokv_bench.tasks.recall.bank import entries
from cokv_bench.tasks.recall.dice import Dice
from cokv_bench.tasks.recall.fill import Words, write
from cokv_bench.tasks.recall.listing import Listing

# What stands between paragraphs where gaps meet.
_GAP = re.compile(r"\n{2,} ?")


@dataclass(frozen=True)
class Source:
    """What an example is drawn from: the words and essays of its split, and dice of its own."""

    words: Words
    essays: Haystack
    dice: Dice

    def without(self, values: Collection[str]) -> "Source":
        """The same, but for values that its texts do not say."""
        return replace(self, words=self.words.without(values))


@dataclass(frozen=True)
class Text:
    """An endless text and what a fact looks like in it.

    Attributes:
        unit: a sentence, row, line or function of a number 0, 1, ..., with the gap before it.
        dress: a fact as it would stand before the unit of a number, with the gap before it.
        head: what stands above all units and facts.
    """

    unit: Callable[[int], str]
    dress: Callable[[str, int], str]
    head: str = ""


def placed(text: Text, units: int, facts: Sequence[str], shares: Sequence[float]) -> str:
    """So many units with the facts between them.

    Args:
        shares: where each fact stands, as a share in [0, 1) of all the places; equal ones keep their order.
    """
    spots = [(int(share * (units + 1)), k) for k, share in enumerate(shares)]
    before: dict[int, list[str]] = {}
    for spot, k in sorted(spots):
        before.setdefault(spot, []).append(text.dress(facts[k], spot))
    parts = [part for i in range(units) for part in (*before.get(i, ()), text.unit(i))]
    joined = "".join([text.head, *parts, *before.get(units, ())])
    return _GAP.sub("\n\n", joined).strip()


def boxed(text: Text) -> Text:
    """The same text, in which a fact is a paragraph of its own, such as a list."""
    return replace(text, dress=lambda fact, i: f"\n\n{fact}\n\n")


def essays(source: Source) -> Text:
    """Sentences of an essay of the split from a drawn one on."""
    sentences = source.essays.sentences
    start = source.dice.of("essay").below(len(sentences))
    return Text(lambda i: sentences[(start + i) % len(sentences)], lambda fact, i: " " + fact)


def cycled(words: Words, name: str, dice: Dice) -> Callable[[int], str]:
    """Endless templates of a list: in a drawn order, all of them before any comes again in another order."""
    listed = entries(name, words.split)

    @cache
    def lap(number: int) -> list[str]:
        return dice.of(name, "lap", number).some(listed, len(listed))

    return lambda i: lap(i // len(listed))[i % len(listed)]


def news(source: Source) -> Text:
    """Short paragraphs of local news."""
    return _prose(source, "news", 3)


def report(source: Source) -> Text:
    """Numbered sections of an official report."""
    words, dice = source.words, source.dice.of("report")
    prose, size = _prose(source, "report", 4), 5 + dice.below(4)

    @cache
    def unit(i: int) -> str:
        if i % size:
            return prose.unit(i)
        heading = words.value("heading", dice.of("heading", i))
        return f"\n\n{i // size + 1}. {heading}\n\n{prose.unit(i).lstrip()}"

    return Text(unit, prose.dress)


def _prose(source: Source, name: str, paragraph: int) -> Text:
    words, dice = source.words, source.dice.of(name)
    parts = {f"{name}{part}": cycled(words, f"{name}{part}", dice) for part in ("open", "main")}

    @cache
    def unit(i: int) -> str:
        own = dice.of(i)
        kept = {part: words.text(template(i), own) for part, template in parts.items()}
        form = words.entry(name, own)
        sentence = write(form, words.fill([form], own, kept=kept).values)
        return ("\n\n" if own.below(paragraph) == 0 else " ") + sentence[:1].upper() + sentence[1:]

    return Text(unit, lambda fact, i: " " + fact)


#: How a line of a talk is written, and how a group of people may be told apart.
_LINES = ("\n{who}: {said}", "\n[{at}] {who}: {said}", "\n<{who}> {said}", "\n\n{who}\n{said}", "\n- {who}: {said}")


@dataclass(frozen=True)
class Talk:
    """A conversation: its people, the form of a line, and one that somebody says before the unit of a number."""

    people: list[str]
    form: str
    unit: Callable[[int], str]
    line: Callable[[str, str, int], str]

    def begun(self, who: str, said: str) -> str:
        """A line again, without its time of day."""
        return self.form.replace("[{at}] ", "").format(who=who, said=said).lstrip()


def talk(source: Source) -> Talk:
    """A chat of three to six people."""
    words, dice = source.words, source.dice.of("talk")
    full = dice.chance(30)
    people: list[str] = []
    for k in range(3 + dice.below(4)):
        people.append(words.value("person" if full else "first", dice.of("who", k), people))
    told = cycled(words, "chat", dice)
    form, start, pace = dice.pick(_LINES), dice.below(600), 1 + dice.below(3)

    def line(who: str, said: str, i: int) -> str:
        minutes = start + i * pace
        return form.format(who=who, said=said, at=f"{minutes // 60 % 24:02}:{minutes % 60:02}")

    @cache
    def unit(i: int) -> str:
        own = dice.of(i)
        return line(own.pick(people), words.text(told(i), own), i)

    return Talk(people, form, unit, line)


def dialogue(source: Source) -> Text:
    """The chat, in which somebody tells the fact."""
    said, dice = talk(source), source.dice.of("teller")
    return Text(said.unit, lambda fact, i: said.line(dice.of(fact).pick(said.people), fact, i))


_LEVELS = ("INFO", "WARN", "DEBUG", "ERROR")


def log(source: Source) -> Text:
    """The lines of a service's log."""
    words, dice = source.words, source.dice.of("log")
    day, second = words.value("date", dice), dice.below(20000)

    def line(text: str, i: int) -> str:
        own = dice.of("line", i)
        at = second + 3 * i + own.below(3)
        return f"\n{day} {at // 3600 % 24:02}:{at // 60 % 60:02}:{at % 60:02} {own.pick(_LEVELS)} {text}"

    told = cycled(words, "log", dice)
    return Text(cache(lambda i: line(words.text(told(i), dice.of(i)), i)), line)


def table(source: Source) -> Text:
    """The rows of a table, with the fact as a note between them."""
    rows = Listing.drawn(source.words, source.dice.of("table"))
    mark = "\n# " if rows.form == "csv" else "\n"
    return Text(lambda i: rows.line(rows.row(i)), lambda fact, i: f"{mark}{fact}", rows.head)


def catalogue(source: Source) -> Text:
    """The items of a list."""
    words, dice = source.words, source.dice.of("catalogue")
    mark = dice.pick(("-", "*", "•", "+", "[ ]"))
    title, told = words.value("listtitle", dice), cycled(words, "item", dice)

    @cache
    def unit(i: int) -> str:
        return f"\n{mark} {words.text(told(i), dice.of(i))}"

    return Text(unit, lambda fact, i: f"\n{mark} {fact}", f"{title}\n")


@dataclass(frozen=True)
class Language:
    """How code of a language looks.

    Attributes:
        lines: the list of its statements.
        begin: the first line of a function, with {name} and {given}.
        end: what follows its body.
        comment: the mark before a comment.
        camel: whether names are written likeThis.
    """

    lines: str
    begin: str
    end: str
    comment: str
    camel: bool = False


LANGUAGES = (
    Language("python", "def {name}({given}):", "", "#"),
    Language("javascript", "function {name}({given}) {{", "\n}", "//", camel=True),
    Language("go", "func {name}({given} string) {{", "\n}", "//", camel=True),
    Language("java", "void {name}(Object {given}) {{", "\n}", "//", camel=True),
    Language("rust", "fn {name}({given}: &str) {{", "\n}", "//"),
)


@dataclass(frozen=True)
class Function:
    """A function: its name, its first line and the lines of its body without indentation."""

    name: str
    begin: str
    body: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Program:
    """Functions in one language."""

    language: Language
    function: Callable[[int], Function]


def program(source: Source) -> Program:
    """A file in a drawn language."""
    words, dice = source.words, source.dice.of("code")
    language = dice.pick(LANGUAGES)

    @cache
    def function(i: int) -> Function:
        own = dice.of(i)
        parts = [words.value("codeverb", own), words.value("codeword", own), words.value("codeword", own)]
        name = parts[0] + "".join(map(str.capitalize, parts[1:])) if language.camel else "_".join(parts)
        begin = language.begin.format(name=name, given=words.value("codeword", own))
        body: list[str] = []
        for _ in range(2 + own.below(4)):
            body.append(words.value(language.lines, own, body))
        return Function(name, begin, tuple(body), begin + "".join(f"\n    {line}" for line in body) + language.end)

    return Program(language, function)


def code(source: Source) -> Text:
    """The file, with the fact as a comment between functions."""
    file = program(source)
    return Text(lambda i: "\n\n" + file.function(i).text, lambda fact, i: f"\n\n{file.language.comment} {fact}")


def constants(source: Source) -> Text:
    """The file, with the fact as a line of code."""
    return Text(code(source).unit, lambda fact, i: f"\n\n{fact}")


GENRES: Mapping[str, Callable[[Source], Text]] = {
    "essays": essays,
    "news": news,
    "report": report,
    "code": code,
    "dialogue": dialogue,
    "log": log,
    "table": table,
    "catalogue": catalogue,
}
#: Those in which a list or table is not one among others.
PROSE = {name: GENRES[name] for name in ("essays", "news", "report", "code", "dialogue", "log")}
