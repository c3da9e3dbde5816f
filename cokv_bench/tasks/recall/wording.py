"""Entries of the lists of facts: how a fact is told, asked for, and begun again."""

import re
from dataclasses import dataclass

from cokv_bench.tasks.recall.dice import Dice
from cokv_bench.tasks.recall.fill import SLOT, Filled, Words, slots, write

# The parts of an entry, and the facts of one that has two.
_PART, _FACT = " | ", " || "
_END = re.compile(r"[.!?;]*$")


@dataclass(frozen=True)
class Wording:
    """An entry: its facts, the question, and where there is one the beginning of a sentence that the answer ends."""

    facts: tuple[str, ...]
    question: str
    cloze: str

    @classmethod
    def drawn(cls, words: Words, kind: str, dice: Dice) -> "Wording":
        """One of a kind."""
        told, question, *cloze = words.entry(f"tell_{kind}", dice).split(_PART)
        return cls(tuple(told.split(_FACT)), question, cloze[0] if cloze else "")

    def tell(self, filled: Filled) -> list[str]:
        """The facts."""
        return [write(fact, filled.values) for fact in self.facts]

    def begun(self, filled: Filled) -> tuple[str, str]:
        """The first fact up to what cannot be known without it, and what follows up to the end of the last one.

        Both empty where something that tells the fact from others follows the answer.
        """
        first, rest = self.facts[0], self.facts[1:]
        marks = list(SLOT.finditer(first))
        mark = marks[-1]
        if len(marks) < 2 or (not rest and not mark[1]) or slots(first[mark.end() :]):
            return "", ""
        before, after = write(first[: mark.start()], filled.values), write(mark[0] + first[mark.end() :], filled.values)
        if before.endswith('"'):
            before, after = before[:-1], '"' + after
        return before.rstrip(), " ".join([after if rest else _END.sub("", after), *self.tell(filled)[1:]])
