"""Words to count: common ones among rare ones, and the most frequent ones of a long-tailed distribution."""

import math

from cokv_bench.tasks.ruler.material import Draft, Material

COMMON = 10
_SHORT = 4096
FREQUENT = 3
_ZETA_2 = math.pi**2 / 6


def repetitions(length: int) -> tuple[int, int]:
    """How often a common and any other word stands in a list for that prompt length (cwe), as published."""
    return (6, 1) if length < _SHORT else (30, 3)


def common_words(material: Material) -> Draft:
    """A numbered list in which ten words stand more often than all others. A unit of context is another word."""
    often, rarely = repetitions(material.length)
    known = material.single_words()
    common = known.first(COMMON)

    def prompt(units: int) -> str:
        # One at least, or nothing would be less common.
        others = known.first(COMMON + 1 + units)[COMMON:]
        listed = material.shuffled(common * often + others * rarely)
        context = " ".join(f"{i}. {word}" for i, word in enumerate(listed, start=1))
        return (
            "The following numbered list repeats some words more often than others. Remember the words that occur "
            f"most often.\n\n{context}\n\nWhat are the {COMMON} words that occur most often in the list above?"
        )

    return Draft(tuple(common), prompt)


def frequencies(n_words: int) -> list[int]:
    """How often each rank occurs among so many draws from a zeta distribution with alpha 2, rounded down.

    Ranks that round to 0 are left out. The sum is below `n_words`, since the tail is lost.
    """
    counts: list[int] = []
    while count := int(n_words / ((len(counts) + 1) ** 2 * _ZETA_2)):
        counts.append(count)
    return counts


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

    def prompt(units: int) -> str:
        counts = frequencies(n_draws(units))
        ranked = ["...", *coded.first(len(counts) - 1)]
        drawn = material.shuffled([word for word, count in zip(ranked, counts, strict=True) for _ in range(count)])
        return (
            "The following text is in code. Keep track of how often each coded word occurs in it.\n\n"
            f"{' '.join(drawn)}\n\n"
            "Leave the dots '...' out of account and give no explanation. "
            f"What are the {FREQUENT} coded words that occur most often in the text above?"
        )

    return Draft(tuple(answers), prompt)
