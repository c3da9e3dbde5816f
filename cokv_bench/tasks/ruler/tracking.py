"""Variable tracking: a value that is handed on from variable to variable."""

from cokv_bench.tasks.ruler.material import Draft, Material, noise

HOPS = 4


def variable_tracking(material: Material) -> Draft:
    """One chain of four hops in noise; all five variables are asked for. A unit of context is a noise sentence."""
    (value,) = material.numbers(5).first(1)
    # Lower-case letters are dealt to the splits; the names are their capitals, so they too are of one split.
    names = [name.upper() for name in material.letters(5).first(HOPS + 1)]
    sources = [value, *(f"VAR {name}" for name in names)]
    chain = [f"VAR {name} = {source}." for name, source in zip(names, sources, strict=False)]

    def prompt(units: int) -> str:
        return (
            "The following text hides assignments that give variables a value or the value of another variable. "
            "Follow them from one variable to the next.\n\n"
            f"{material.place(noise(units), chain, in_order=True)}\n\n"
            f"By the assignments in the text above, {len(names)} variables have the value {value}. "
            "What are the names of all of them?"
        )

    return Draft(tuple(names), prompt)
