"""Needles made from the bank of wordings and values in bank.yaml; needles of two splits share no listed value."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from cokv_bench.errors import RequestError, unknown
from cokv_bench.tasks.base import Split, content_id
from cokv_bench.tasks.made.draw import draw, may_appear, value_side

_SLOT = re.compile(r"{(\w+)}")
_TRIES = 200


@dataclass(frozen=True)
class Needle:
    """A fact, the question that asks for it, and its answer.

    Attributes:
        id: hash of needle, question and answers.
        needle: one sentence.
        question: one question that only the needle answers.
        answer: the accepted answer.
        family: name of the wording.
        kind: "number", "name", "place", "phrase", or "user" for a needle of the user's file.
        other_answers: further accepted answers.
    """

    id: str
    needle: str
    question: str
    answer: str
    family: str
    kind: str
    other_answers: tuple[str, ...] = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """All accepted answers, the first one first."""
        return (self.answer, *self.other_answers)


@dataclass(frozen=True)
class Family:
    """One wording: templates with slots such as {city}; `split` is "both" (any split), "test" or "report"."""

    name: str
    kind: str
    split: str
    needle: str
    question: str
    answer: str


@cache
def _bank() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("bank.yaml").read_text(encoding="utf-8")
    bank: dict[str, Any] = yaml.safe_load(text)
    return bank


def families(split: Split = "all") -> tuple[Family, ...]:
    """The wordings of a split, in the order in which needles cycle through them."""
    known = tuple(Family(**entry) for entry in _bank()["families"])
    return tuple(family for family in known if split == "all" or family.split in ("both", split))


@cache
def values(split: Split) -> Mapping[str, tuple[str, ...]]:
    """The slot values of a split by list ("city", "first", ...); no two splits share one."""
    reported: dict[str, list[str]] = _bank()["report"]
    if split == "report":
        return {name: tuple(listed) for name, listed in reported.items()}
    lists: dict[str, list[str]] = _bank()["values"]
    if split == "all":
        return {name: (*listed, *reported[name]) for name, listed in lists.items()}
    return {name: tuple(value for value in listed if value_side(value) == split) for name, listed in lists.items()}


def _number(split: Split, seed: object) -> str:
    for attempt in range(_TRIES):
        digits = 4 + draw(3, "digits", attempt, seed)
        number = str(10 ** (digits - 1) + draw(9 * 10 ** (digits - 1), "number", attempt, seed))
        if may_appear(number, split):
            return number
    raise AssertionError("every number drawn belongs to the other split")  # chance below 1e-30


def _fill(family: Family, split: Split, seed: object) -> Needle:
    filled: dict[str, str] = {}
    compounds: dict[str, str] = _bank()["compounds"]

    def value(slot: str) -> str:
        if slot == "number":
            return _number(split, seed)
        if slot in compounds:
            return _SLOT.sub(lambda part: value(part[1]), compounds[slot])
        choices = values(split)[slot]
        return choices[draw(len(choices), slot, seed)]

    for slot in _SLOT.findall(family.needle):
        filled[slot] = value(slot)
    needle, question, answer = (t.format(**filled) for t in (family.needle, family.question, family.answer))
    return Needle(content_id(needle, question, answer), needle, question, answer, family.name, family.kind)


def needles(split: Split, count: int, seed: int, families: Sequence[str] | None = None) -> list[Needle]:
    """The first `count` needles of a split ("profile", "test" or "report") and a seed; a longer list begins the same.

    Consecutive needles cycle through the wordings, beginning at one that the seed decides, so that wording and
    depth are not tied together. No two needles of a list are equal. Raises RequestError where a family is
    unknown or not of this split, or where the families have no `count` different needles.
    """
    if split == "all":
        raise RequestError("Needles are drawn for 'profile', 'test' or 'report'; ask for each split on its own.")
    chosen = _choose(split, families)
    offset = draw(len(chosen), "family", seed)
    found: dict[str, Needle] = {}
    for index in range(count):
        family = chosen[(offset + index) % len(chosen)]
        for attempt in range(_TRIES):
            needle = _fill(family, split, f"{seed} {split} {family.name} {index} {attempt}")
            if needle.id not in found:
                break
        else:
            raise RequestError(
                f"The needle bank ran out of different needles of family '{family.name}' after {index} of "
                f"{count} needles for split '{split}'; ask for fewer or for more families."
            )
        found[needle.id] = needle
    return list(found.values())


def _choose(split: Split, names: Sequence[str] | None) -> list[Family]:
    known = {family.name: family for family in families()}
    for name in names or ():
        if name not in known:
            raise unknown("needle family", name, known)
    chosen = [family for family in families(split) if names is None or family.name in names]
    if not chosen:
        raise RequestError(
            f"None of the needle families {', '.join(names or ()) or '(none)'} belongs to split '{split}'; "
            f"name one of {', '.join(family.name for family in families(split))}."
        )
    return chosen
