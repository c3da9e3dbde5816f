"""An example on its way: all of it but how much text its length leaves room for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cokv_bench.tasks.recall.dice import Dice
from cokv_bench.tasks.recall.fill import Words, write

#: Ways to ask, and the list of wordings behind each. The first two are a user's turn.
SHORT, SENTENCE, BEGUN, AGAIN, LISTING, CHOICE = "chat", "sentence", "begun", "again", "listing", "choice"
_CHAT = (SHORT, SENTENCE)


@dataclass(frozen=True)
class Ask:
    """How a question is put.

    Attributes:
        way: SHORT: a question. SENTENCE: one that asks for the sentence of the text. BEGUN: a question, and its answer
            begun. AGAIN: the fact again, up to the answer. LISTING: the same of lines. CHOICE: a question that names
            its answers.
        before: what stands before the text.
        wish: the template of the prompt's end, with {question} or {cloze} (the beginning of the answer) or both.
    """

    way: str
    before: str
    wish: str

    @property
    def chat(self) -> bool:
        """Whether the prompt is a user's turn; otherwise it ends where the answer begins."""
        return self.way in _CHAT

    def end(self, *, question: str = "", cloze: str = "") -> str:
        """The end of the prompt."""
        return "\n\n" + write(self.wish, {"question": question, "cloze": cloze})


def asking(words: Words, dice: Dice, ways: Sequence[str]) -> Ask:
    """One of the ways, each as often as it is named; some instructions stand before the text."""
    own = dice.of("ask")
    way = own.pick(ways)
    before = words.entry("before", own) + "\n\n" if own.chance(65 if way in _CHAT else 35) else ""
    return Ask(way, before, words.entry(f"{way}ask", own))


@dataclass(frozen=True)
class Draft:
    """An example whose text has no size yet.

    Attributes:
        answers: accepted answers, the reference first.
        context: what stands before the question, with so many units, 0 or more.
        end: the end of the prompt, for so many units.
        kind: what is asked for, such as "date".
        genre: of the text.
        chat: whether the prompt is a user's turn.
        facts: what the answer depends on.
        depth: where the first of them stands, as a share of the text.
        once: texts that must stand exactly once in the context.
        classes: the answers to choose from.
    """

    answers: tuple[str, ...]
    context: Callable[[int], str]
    end: Callable[[int], str]
    kind: str
    genre: str
    chat: bool
    facts: tuple[str, ...]
    depth: float
    once: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None

    def prompt(self, units: int) -> str:
        """The prompt with so many units."""
        return self.context(units) + self.end(units)
