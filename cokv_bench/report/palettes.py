"""Colours: of numbers cividis and purple-orange, which the colour-blind tell apart, and of methods, with markers."""

from collections.abc import Sequence
from dataclasses import dataclass

#: From low to high, evenly spaced; the lightness rises all the way.
SEQUENTIAL = (
    *("#00224e", "#1a386f", "#434e6c", "#61656f", "#7d7c78"),
    *("#9b9476", "#bcae6c", "#dec958", "#fee838"),
)
#: From below to above, the middle is zero.
DIVERGING = (
    *("#7f3b08", "#be630a", "#ef9e3c", "#fed7a2", "#f6f6f7"),
    *("#cecde4", "#988dbe", "#5d3790", "#2d004b"),
)
#: Of methods, on a white background and on the page's dark one: the same hues, lighter. Neutral colours are left to
#: the full cache and to ceilings.
QUALITATIVE = (
    *("#0500d2", "#b3090d", "#008a4b", "#850063", "#c08c0f", "#3c93ff", "#8a60b0"),
    *("#602405", "#20a5a4", "#f80f6c", "#0b4e8c", "#335d07", "#ef44e6", "#8300ff"),
)
QUALITATIVE_DARK = (
    *("#239bff", "#c14909", "#28cf2a", "#d5038d", "#a5901d", "#40e7ff", "#aa0fff"),
    *("#ffa96c", "#2bada8", "#ff688b", "#adabff", "#d7eb60", "#ffbcdb", "#8364b8"),
)

#: How many markers and patterns of dashes a drawing needs.
MARKERS, DASHES = 7, 4


@dataclass(frozen=True)
class Look:
    """How a line looks: numbers of its colour (of `QUALITATIVE`), marker and dashes (0 for none)."""

    colour: int
    marker: int
    dash: int


def look(style: int) -> Look:
    """The look of a style.

    Markers and dashes alone tell 28 styles apart, for print and for the colour-blind; colours and markers, where there
    are points without lines, 98.
    """
    colours = len(QUALITATIVE)
    return Look(style % colours, (style + style // colours) % MARKERS, style // MARKERS % DASHES)


Rgb = tuple[int, int, int]


def colour(share: float, stops: Sequence[str]) -> Rgb:
    """The colour at a share of the way from the first stop to the last; shares beyond are cut to 0 and 1."""
    place = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    left = min(int(place), len(stops) - 2)
    one, other = _rgb(stops[left]), _rgb(stops[left + 1])
    red, green, blue = (round(a + (place - left) * (b - a)) for a, b in zip(one, other, strict=True))
    return red, green, blue


def is_dark(rgb: Rgb) -> bool:
    """Whether white text on it reads better than black."""
    red, green, blue = rgb
    return 0.299 * red + 0.587 * green + 0.114 * blue < 128


def _rgb(text: str) -> Rgb:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
