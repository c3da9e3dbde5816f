"""Templates with slots, filled with words of a split."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cokv_bench.tasks.base import Split
from cokv_bench.tasks.recall.bank import entries
from cokv_bench.tasks.recall.dice import Dice
from cokv_bench.tasks.recall.values import drawn

#: The slot's name, a digit that tells slots of one list apart, and "=" before it where it is the answer; an "s" behind
# it asks for the plural.
SLOT = re.compile(r"{(=?)([A-Za-z]+)(\d?)}(s\b)?")
_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])")
# Draws after which two equal values are accepted: a list of a split may be that short.
_TRIES = 30


@dataclass(frozen=True)
class Filled:
    """Values by slot, such as "person2"; `answer` names the slot that was marked as the answer."""

    values: dict[str, str]
    answer: str = ""


@dataclass(frozen=True)
class Words:
    """The lists of a split, as templates ask for them.

    Attributes:
        unsaid: values that no slot gets, since the text says them once already.
    """

    split: Split
    unsaid: frozenset[str] = frozenset()

    def without(self, values: Collection[str]) -> "Words":
        """The same lists without some values."""
        return Words(self.split, self.unsaid.union(values))

    def entry(self, name: str, dice: Dice) -> str:
        """An entry of a list as it stands there."""
        return dice.pick(entries(name, self.split))

    def value(self, name: str, dice: Dice, avoid: Collection[str] = ()) -> str:
        """A drawn value, or an entry with its slots filled; not one to avoid, unless there is hardly any other."""
        value = self._value(name, dice)
        for _ in range(_TRIES):
            if value not in avoid and value not in self.unsaid:
                break
            value = self._value(name, dice)
        return value

    def _value(self, name: str, dice: Dice) -> str:
        value = drawn(name, self.split, dice)
        return self.text(self.entry(name, dice), dice) if value is None else value

    def text(self, template: str, dice: Dice) -> str:
        """A template with all its slots filled, equal ones equally."""
        return write(template, self.fill([template], dice).values)

    def fill(
        self,
        templates: Collection[str],
        dice: Dice,
        *,
        avoid: Collection[str] = (),
        kept: Mapping[str, str] | None = None,
    ) -> Filled:
        """Values for the slots of templates; those of one list differ.

        Args:
            avoid: values that no slot gets.
            kept: values that are known already, by slot.
        """
        values, answer = dict(kept or {}), ""
        for template in templates:
            for marked, name, digit, _ in SLOT.findall(template):
                slot = name.lower() + digit
                answer = slot if marked else answer
                if slot not in values:
                    values[slot] = self.value(name.lower(), dice, {*avoid, *values.values()})
        return Filled(values, answer)


def write(template: str, values: Mapping[str, str]) -> str:
    """The template with its slots filled; {Site} begins with a capital, {SITE} is all capitals, {site}s the plural.

    "a" before a vowel becomes "an".
    """

    def of(match: re.Match[str]) -> str:
        _, name, digit, several = match.groups()
        value = values[name.lower() + digit]
        if several:
            value = plural(value)
        if name.isupper() and len(name) > 1:
            return value.upper().replace(" ", "_")
        return value[:1].upper() + value[1:] if name[0].isupper() else value

    return _BEFORE_VOWEL.sub(r"\1n ", SLOT.sub(of, template))


def plural(noun: str) -> str:
    """More than one of a thing, by the rules of English spelling."""
    if noun.endswith("man"):
        return noun[:-3] + "men"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def slots(template: str) -> list[str]:
    """The slots of a template that are not its answer."""
    return [name.lower() + digit for marked, name, digit, _ in SLOT.findall(template) if not marked]
