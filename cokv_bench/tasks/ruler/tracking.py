"""Variable tracking: a value that is handed on from variable to variable."""

from dataclasses import replace

from cokv_bench.tasks.made.fit import most_units
from cokv_bench.tasks.ruler.draft import Draft, worked
from cokv_bench.tasks.ruler.material import Material, noise

HOPS = 4
# As published: the worked example has a length of its own and shorter names, so that no name of it is an answer.
EXAMPLE_TOKENS = 500
_NAME, _EXAMPLE_NAME = 5, 3


def variable_tracking(material: Material) -> Draft:
    """One chain of four hops in noise; all five variables are asked for. A unit of context is a noise sentence.

    A worked example comes first, another chain in at most 500 tokens (more where the bare chain takes more).
    """
    value, example_value = material.numbers(5).first(2)
    shown = _chain(replace(material, seed=f"{material.seed} example"), example_value, _EXAMPLE_NAME)

    def example(units: int) -> str:
        return worked(shown, units, " ".join(shown.answers))

    units = most_units(EXAMPLE_TOKENS, lambda units: material.essays.tokens(example(units)))
    return _chain(material, value, _NAME).after(example(max(units, 0)))


def _chain(material: Material, value: str, letters: int) -> Draft:
    # Lower-case letters are dealt to the splits; the names are their capitals, so they too are of one split.
    names = [name.upper() for name in material.letters(letters).first(HOPS + 1)]
    sources = [value, *(f"VAR {name}" for name in names)]
    chain = [f"VAR {name} = {source}." for name, source in zip(names, sources, strict=False)]

    def context(units: int) -> str:
        return (
            "The following text hides assignments that give variables a value or the value of another variable. "
            "Follow them from one variable to the next.\n\n"
            f"{material.place(noise(units), chain, in_order=True)}"
        )

    question = (
        f"By the assignments in the text above, {len(names)} variables have the value {value}. "
        "What are the names of all of them?"
    )
    return Draft(tuple(names), context, question)
