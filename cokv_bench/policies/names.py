"""How methods are written: `NAME[:option=value]...`, or a pair `RANKING+SPLIT` of two such parts.

Everything here is about texts and needs no PyTorch. Which options a method takes is known to `find_method` of
`cokv_bench.policies.registry`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cokv_bench.errors import RequestError, quoted, unknown
from cokv_bench.registries import ALLOCATORS, CEILING, METHODS, SCORERS
from cokv_bench.registry import Registry

#: For the reader of `cokv-bench ls methods`.
HOW = (
    "Options follow a name, as in snapkv:kernel=11:pooling=avg. A ranking and a split make a method too, as in "
    "window+adaptive: a scorer or a method on the left, an allocator or a method on the right (docs/methods.md). "
    "A scorer alone gives every head the same."
)
#: The method that keeps all tokens, so that it neither ranks nor splits.
FULL = "full"
# With so few digits that Python reads it.
_NUMBER = re.compile(r"-?(\d{1,40}(\.\d*)?|\.\d+)(e-?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Part:
    """A name with its options, sorted by name; the values are texts in their shortest form."""

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        return "".join([self.name, *(f":{option}={value}" for option, value in self.options)])


@dataclass(frozen=True)
class MethodName:
    """A method as it is written.

    Attributes:
        ranking: of a pair, what ranks the tokens; else the method.
        split: of a pair, what splits the budget over the heads; else None.
    """

    ranking: Part
    split: Part | None = None

    @property
    def text(self) -> str:
        """The one way to write it, as in records and tables."""
        return self.ranking.text if self.split is None else f"{self.ranking.text}+{self.split.text}"

    @property
    def known_as(self) -> tuple[str, ...]:
        """Under which names its knobs may have been chosen, its own first; a pair has no other."""
        own = (self.text,)
        return own if self.split else tuple(dict.fromkeys((*own, self.ranking.name)))


def parse(text: str) -> MethodName:
    """Take a method's text apart. A name of a registered method is that method, whatever signs it has.

    Raises:
        RequestError: it is not written like a method; whether there is one of its name is not looked at.
    """
    if not isinstance(text, str):
        raise RequestError(f"A method is named by a text, such as 'snapkv', not {quoted(text)}.")
    if text in METHODS:
        return MethodName(Part(text))
    parts = [_part(part, text) for part in text.split("+")]
    if len(parts) > 2:
        raise RequestError(
            f"The method {quoted(text)} has {len(parts)} parts with '+' between them; a pair has two, a ranking and a "
            "split, such as window+adaptive."
        )
    return MethodName(*parts)


def canonical(text: str) -> str:
    """The one way to write a method; a text that is not written like one stays as it is."""
    try:
        return parse(text).text
    except RequestError:
        return text


def each_once(texts: Iterable[str]) -> list[str]:
    """Methods in their canonical form and in order; two spellings of one count once."""
    return list(dict.fromkeys(map(canonical, texts)))


def base(text: str) -> str:
    """The name of the method without its options; a pair is its own base."""
    try:
        found = parse(text)
    except RequestError:
        return text
    return found.ranking.name if found.split is None else found.text


def is_ceiling(text: str) -> bool:
    """Whether it ranks by what no method has, such as the full cache's own answer: told in tables, never in tests."""
    try:
        return parse(text).ranking.name in SCORERS.marked(CEILING) | METHODS.marked(CEILING)
    except RequestError:
        return False


def label(text: str) -> str:
    """How tables and figures call a method: a ceiling is marked as one."""
    return f"{text} (ceiling)" if is_ceiling(text) else text


def competing(methods: Iterable[str]) -> list[str]:
    """Those of the methods that are compared at their budgets: neither the full cache nor ceilings."""
    return [method for method in methods if method != FULL and not is_ceiling(method)]


def place(text: str) -> int:
    """Where a method stands in tables: with its base in the order of the registry; pairs and unknown ones come last."""
    names = METHODS.keys()
    name = base(text)
    return names.index(name) if name in names else len(names)


def check(text: str) -> None:
    """Refuse a method that is not there, before PyTorch or a model is loaded.

    Raises:
        RequestError: it is not written like a method, or a name is unknown, with the nearest ones.
    """
    found = parse(text)
    if found.split is None:
        if found.ranking.name not in SCORERS:
            METHODS.check(found.ranking.name)
        if found.ranking.name == FULL and found.ranking.options:
            raise RequestError(f"The method '{FULL}' keeps all tokens and takes no options; write {FULL}.")
        return
    for part, kind, halves in ((found.ranking, "ranking", SCORERS), (found.split, "split", ALLOCATORS)):
        _check_half(part.name, kind, halves)


def check_ranking(text: str) -> None:
    """Refuse what is no ranking alone, before PyTorch or a model is loaded.

    Raises:
        RequestError: it is not written like one, has a split, keeps all tokens, or is unknown, with the nearest names.
    """
    found = parse(text)
    if found.split is not None:
        raise RequestError(f"'{text}' has a split of its own; name the ranking '{found.ranking.text}' alone.")
    name = found.ranking.name
    if name == FULL:
        raise RequestError(f"The method '{FULL}' keeps all tokens, so it is no ranking; name another.")
    if name not in SCORERS and name not in METHODS:
        raise unknown("ranking", name, {*SCORERS, *METHODS} - {FULL})


def _check_half(name: str, kind: str, halves: Registry[Any]) -> None:
    if name == FULL:
        raise RequestError(f"The method '{FULL}' keeps all tokens, so it is no {kind} of a pair; name another.")
    if name not in halves and name not in METHODS:
        raise unknown(f"{kind} of a pair ({halves.kind} or method)", name, {*halves, *METHODS} - {FULL})


def _part(text: str, whole: str) -> Part:
    name, *written = (each.strip() for each in text.split(":"))
    if not name:
        raise RequestError(
            f"The method {quoted(whole)} lacks a name; write it like snapkv:kernel=11 or window+adaptive."
        )
    options: dict[str, str] = {}
    for each in written:
        option, equals, value = (side.strip() for side in each.partition("="))
        if not (option and equals and value):
            raise RequestError(
                f"{quoted(each)} in the method {quoted(whole)} is no option; write option=value, such as "
                f"{name}:kernel=11."
            )
        # On the command line words have hyphens.
        option = option.replace("-", "_")
        if option in options:
            raise RequestError(f"The method {quoted(whole)} has the option '{option}' twice; give it once.")
        options[option] = shortest(value)
    return Part(SCORERS.current(name), tuple(sorted(options.items())))


def shortest(value: str) -> str:
    """A number or truth value in its shortest form; other texts as they are."""
    lower = value.lower()
    if lower in ("true", "false"):
        return lower
    if not _NUMBER.fullmatch(lower):
        return value
    if "." not in lower and "e" not in lower:
        return str(int(lower))
    number = float(lower)
    # A plus sign parts a pair.
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number).replace("e+", "e")
