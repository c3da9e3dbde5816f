"""Colours that the colour-blind tell apart: cividis and purple-orange for numbers, Okabe and Ito's for methods."""

from collections.abc import Sequence

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
#: Okabe and Ito without yellow and black, which one of the two backgrounds would swallow.
QUALITATIVE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")

#: How many markers a drawing needs: as many as colours.
MARKERS = len(QUALITATIVE)

Rgb = tuple[int, int, int]


def marker(style: int) -> int:
    """The number of a style's marker: another one for each style that has the same colour."""
    return (style + style // len(QUALITATIVE)) % MARKERS


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
