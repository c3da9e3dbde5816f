"""What the methods of a report are, in the words of `cokv-bench ls`, and how their lines look."""

from collections.abc import Sequence
from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.policies.names import Part, base, competing, parse
from cokv_bench.registries import ALLOCATORS, METHODS, SCORERS
from cokv_bench.registry import Registry
from cokv_bench.report.palettes import QUALITATIVE

# These have the first colours, which are the easiest to tell apart.
_COMPARED = ("snapkv", "cokv-search", "cokv", "ada-snapkv", "pyramidkv", "headkv")


def described(method: str) -> str:
    """One line about a method, also about a pair or a ranking alone; nothing where it is of no known name."""
    try:
        found = parse(method)
    except RequestError:
        return ""
    if found.split is None:
        if found.ranking.name in METHODS:
            return METHODS.line(found.ranking.name)
        ranking = _line(found.ranking, SCORERS)
        return f"Ranking: {ranking}. Every head gets the same number of tokens." if ranking else ""
    ranking, split = _line(found.ranking, SCORERS), _line(found.split, ALLOCATORS)
    return f"Ranking: {ranking}. Split: {split}." if ranking and split else ""


def _line(part: Part, halves: Registry[Any]) -> str:
    """What is said about a half of a pair, which may be a method as well."""
    return next((each.line(part.name) for each in (halves, METHODS) if part.name in each), "")


def styles(methods: Sequence[str]) -> dict[str, int]:
    """The number of each method's look: no two in a report have the same, and up to `QUALITATIVE` no two one colour.

    A known method has the same look in every report, unless another method of this report has taken its colour. A
    method with options in its name stands in for its base where that is not in the report. The full cache and ceilings
    have none: they are drawn as levels.
    """
    known = [*dict.fromkeys([*_COMPARED, *METHODS, *SCORERS])]

    def rank(method: str) -> tuple[bool, int]:
        """Known methods choose first, in their order, then those with options in their names."""
        name = base(method)
        return method != name, known.index(name) if name in known else len(known)

    found: dict[str, int] = {}
    for method in sorted(competing(dict.fromkeys(methods)), key=rank):
        usual = rank(method)[1] % len(QUALITATIVE)
        places = [*range(usual, len(QUALITATIVE)), *range(usual)]
        found[method] = next((place for place in places if place not in found.values()), len(found))
    return found
