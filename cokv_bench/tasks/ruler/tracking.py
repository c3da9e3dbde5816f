"""Variable tracking: a value that is handed on from variable to variable."""

from collections.abc import Sequence
from dataclasses import replace

from cokv_bench.tasks.made.fit import most_units
from cokv_bench.tasks.ruler.draft import Asked, Draft, worked
from cokv_bench.tasks.ruler.material import Material, noise

HOPS = 4
# As published: the worked example has a length of its own and shorter names, so that no name of it is an answer.
EXAMPLE_TOKENS = 500
_NAME, _EXAMPLE_NAME = 5, 3


def variable_tracking(material: Material) -> Draft:
    """A chain of four hops per question in noise; all five variables of one are asked for. A unit of context is a noise
    sentence.

    A worked example comes first, another chain in at most 500 tokens (more where the bare chain takes more).
    """
    value, example_value, *others = material.numbers(5).first(material.questions + 1)
    shown = _chains(replace(material, seed=f"{material.seed} example"), [example_value], _EXAMPLE_NAME)

    def example(units: int) -> str:
        return worked(shown, units, " ".join(shown.answers))

    units = most_units(EXAMPLE_TOKENS, lambda units: material.essays.tokens(example(units)))
    return _chains(material, [value, *others], _NAME).after(example(max(units, 0)))


def _chains(material: Material, values: Sequence[str], letters: int) -> Draft:
    """A chain for each value, all of them at once from hop to hop."""
    # Lower-case letters are dealt to the splits; the names are their capitals, so they too are of one split.
    drawn = [name.upper() for name in material.letters(letters).first((HOPS + 1) * len(values))]
    chains = [drawn[start : start + HOPS + 1] for start in range(0, len(drawn), HOPS + 1)]
    hops = [
        f"VAR {names[hop]} = {f'VAR {names[hop - 1]}' if hop else value}."
        for hop in range(HOPS + 1)
        for names, value in zip(chains, values, strict=True)
    ]

    def context(units: int) -> str:
        return (
            "The following text hides assignments that give variables a value or the value of another variable. "
            "Follow them from one variable to the next.\n\n"
            f"{material.place(noise(units), hops, in_order=True)}"
        )

    first, *later = (
        Asked(
            f"By the assignments in the text above, {len(names)} variables have the value {value}. "
            "What are the names of all of them?",
            tuple(names),
        )
        for names, value in zip(chains, values, strict=True)
    )
    return Draft(first.answers, context, first.question, later=tuple(later))
