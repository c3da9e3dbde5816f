"""An example on its way: all of it but how much text its length leaves room for."""

from collections.abc import Callable
from dataclasses import dataclass

from cokv_bench.tasks.recall.dice import Dice
from cokv_bench.tasks.recall.fill import Words, write


@dataclass(frozen=True)
class Ask:
    """How a question is put: what stands before the text, the template around the question, and whether it is chat."""

    chat: bool
    before: str
    wish: str

    def end(self, **values: str) -> str:
        """The end of the prompt."""
        return "\n\n" + write(self.wish, values)


def asking(words: Words, dice: Dice, *, cloze: bool = False) -> Ask:
    """Half of all prompts are a user's turn; the others end where the answer begins.

    Args:
        cloze: whether the fact can be repeated up to the answer in place of a question.
    """
    own = dice.of("ask")
    chat = own.chance(50)
    before = words.entry("before", own) + "\n\n" if own.chance(65 if chat else 35) else ""
    wish = "chatask" if chat else "clozeask" if cloze and own.chance(40) else "plainask"
    return Ask(chat, before, words.entry(wish, own))


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
