"""Words to count: common ones among rare ones, and the most frequent ones of a long-tailed distribution."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from cokv_bench.tasks.ruler.draft import Draft, worked
from cokv_bench.tasks.ruler.material import Material

COMMON = 10
_SHORT = 4096
FREQUENT = 3
_ZETA_2 = math.pi**2 / 6


@dataclass(frozen=True)
class Counts:
    """A list for cwe: how often a common and any other word stands in it, and the same of the worked example.

    Attributes:
        often, rarely: repetitions of a common and of any other word.
        example_words: different words of the example's list, the common ones included.
        example_often, example_rarely: repetitions in the example's list.
    """

    often: int
    rarely: int
    example_words: int
    example_often: int
    example_rarely: int


def counts(length: int) -> Counts:
    """The published counts for prompts of that many tokens."""
    return Counts(6, 1, 20, 3, 1) if length < _SHORT else Counts(30, 3, 40, 10, 3)


def common_words(material: Material) -> Draft:
    """A numbered list in which ten words stand more often than all others. A unit of context is another word.

    A worked example comes first, a short list of other words.
    """
    n = counts(material.length)
    known = material.single_words()
    taken = COMMON + n.example_words
    common, shown = known.first(COMMON), known.first(taken)[COMMON:]

    def listed(units: int) -> list[str]:
        # One at least, or nothing would be less common.
        others = known.first(taken + 1 + units)[taken:]
        return material.shuffled(common * n.often + others * n.rarely)

    example_list = material.shuffled(shown[:COMMON] * n.example_often + shown[COMMON:] * n.example_rarely)
    example = worked(_count(shown[:COMMON], lambda _: example_list), 0, _numbered(shown[:COMMON]))
    return _count(common, listed).after(example)


def _count(common: list[str], listed: Callable[[int], list[str]]) -> Draft:
    def context(units: int) -> str:
        return (
            "The following numbered list repeats some words more often than others. Remember the words that occur "
            f"most often.\n\n{_numbered(listed(units))}"
        )

    return Draft(tuple(common), context, f"What are the {COMMON} words that occur most often in the list above?")


def _numbered(words: list[str]) -> str:
    return " ".join(f"{i}. {word}" for i, word in enumerate(words, start=1))


def frequencies(n_words: int) -> list[int]:
    """How often each rank occurs among so many draws from a zeta distribution with alpha 2, rounded down.

    Ranks that round to 0 are left out. The sum is below `n_words`, since the tail is lost.
    """
    ranks: list[int] = []
    while count := int(n_words / ((len(ranks) + 1) ** 2 * _ZETA_2)):
        ranks.append(count)
    return ranks


def n_draws(units: int) -> int:
    """The draws for so many units of context: 27 are the fewest that show ranks 1 to 4.

    With 42 to 52 draws, ranks 4 and 5 would be equally frequent and the answer would not be decided, so these are
    passed over.
    """
    draws = 27 + units
    return draws if draws < 42 else draws + 11


def frequent_words(material: Material) -> Draft:
    """Meaningless words whose three most frequent ones are asked for. A unit of context is one more draw.

    As published, dots hold the first rank and the answers are ranks 2 to 4.
    """
    coded = material.letters(6)
    answers = coded.first(FREQUENT)

    def context(units: int) -> str:
        ranks = frequencies(n_draws(units))
        ranked = ["...", *coded.first(len(ranks) - 1)]
        drawn = material.shuffled([word for word, count in zip(ranked, ranks, strict=True) for _ in range(count)])
        return (
            f"The following text is in code. Keep track of how often each coded word occurs in it.\n\n{' '.join(drawn)}"
        )

    question = (
        "Leave the dots '...' out of account and give no explanation. "
        f"What are the {FREQUENT} coded words that occur most often in the text above?"
    )
    return Draft(tuple(answers), context, question)
