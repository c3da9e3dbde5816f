"""What the charts of all kinds have in common: colours, markers, intervals and text."""

import html
from typing import Any

from cokv_bench.report.figures import Number, number
from cokv_bench.report.palettes import QUALITATIVE, QUALITATIVE_DARK, look

#: Of text, levels and zero lines.
INK = "--ink"
#: Of what cannot tell methods apart.
FAINT = "--faint"
#: A symbol a marker of `look`, and the sign of each in a text.
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "star")
SIGNS = "●■▲◆▼✚★"
#: The sign of a line without markers.
LEVEL_SIGN = "–"


def method_colour(style: int) -> str:
    """The property of the page's style that has the colour of a style."""
    return f"--method-{look(style).colour}"


def method_colours() -> str:
    """CSS with the colours of all styles, for both themes."""
    light, dark = (
        "".join(f"--method-{place}:{colour};" for place, colour in enumerate(colours))
        for colours in (QUALITATIVE, QUALITATIVE_DARK)
    )
    return (
        f':root{{{light}}}:root[data-theme="dark"]{{{dark}}}'
        f'@media (prefers-color-scheme: dark){{:root:not([data-theme="light"]){{{dark}}}}}'
    )


def reach(middle: tuple[Number, ...], low: tuple[Number, ...], high: tuple[Number, ...]) -> dict[str, Any]:
    """Error bars, nothing where an interval is not known."""

    def lengths(one: tuple[Number, ...], other: tuple[Number, ...]) -> list[Number]:
        return [None if a is None or b is None else max(b - a, 0.0) for a, b in zip(one, other, strict=True)]

    above, below = lengths(middle, high), lengths(low, middle)
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1, "width": 3}


def with_interval(value: Number, low: Number, high: Number) -> str:
    """A number as text, with its interval where that is known."""
    return number(value) + ("" if low is None or high is None else f" ({number(low)} to {number(high)})")


def safe(text: str) -> str:
    """Text on one line without markup."""
    return html.escape(" ".join(text.split()), quote=False)
