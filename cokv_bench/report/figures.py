"""What the figures of a report show, before a page, a file or a terminal draws them."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Number = float | None


def known(value: Number) -> Number:
    """A number as figures have it: None where there is none or it is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


def numbers(column: Iterable[Number]) -> tuple[Number, ...]:
    """A column of a table as figures have it."""
    return tuple(map(known, column))


@dataclass(frozen=True)
class Table:
    """A figure's numbers as text: a header, and rows of as many cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Series:
    """A line with intervals.

    Attributes:
        x, y: its points, x rising.
        low, high: interval of each y; None where unknown.
        style: number of its colour and marker, the same for a method in all figures.
        reference: a level to compare with (FullKV), drawn over the whole width from its first point.
        ceiling: what no method can have, drawn as neutral as a level, along its points.
        dash: number of its dashes, 0 for none: tells runs apart, the two quantities of a figure, or methods of which
            there are more than markers.
        about: what the line is, a sentence for those who point at its name.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[Number, ...]
    low: tuple[Number, ...]
    high: tuple[Number, ...]
    style: int = 0
    reference: bool = False
    ceiling: bool = False
    dash: int = 0
    about: str = ""

    @property
    def level(self) -> bool:
        """Whether it is drawn over the whole width: a reference, or a ceiling of one point."""
        return self.reference or (self.ceiling and len(self.x) == 1)

    @classmethod
    def plain(cls, name: str, x: Iterable[float], y: Iterable[Number], **look: Any) -> "Series":
        """A line without intervals; `look` is its style, reference and dash."""
        places, values = tuple(map(float, x)), numbers(y)
        none = (None,) * len(places)
        return cls(name, places, values, none, none, **look)


def ranked(series: Iterable[Series]) -> tuple[Series, ...]:
    """Lines of one point each by their numbers, so that no name's line crosses another; others as they are given."""
    found = tuple(series)
    if len({x for line in found if not line.reference for x in line.x}) > 1:
        return found

    def rank(line: Series) -> tuple[bool, float]:
        return not line.reference, max((y for y in line.y if y is not None), default=-math.inf)

    return tuple(sorted(found, key=rank))


@dataclass(frozen=True)
class Lines:
    """Lines over numbers.

    Attributes:
        apart: on a logarithmic axis, points of one x are drawn side by side, so that their intervals can be read.
        x_sign: written behind each x, such as "%".
    """

    title: str
    about: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False
    apart: bool = False
    x_sign: str = ""

    def placed(self, index: int) -> list[float]:
        """Where the points of a series are drawn."""
        step = min(0.04, 0.3 / len(self.series)) if self.apart else 0.0
        return [x * 2 ** (step * (index - (len(self.series) - 1) / 2)) for x in self.series[index].x]

    @property
    def has_points(self) -> bool:
        """Whether any line but the levels has a point whose number is known."""
        return any(y is not None for series in self.series if not series.level for y in series.y)

    @property
    def ticks(self) -> list[float]:
        """The x values of all lines, rising."""
        return sorted({x for series in self.series if not series.reference for x in series.x})

    def told(self, x: float) -> str:
        """An x as text."""
        return number(x) + self.x_sign

    @property
    def decades(self) -> list[float]:
        """1, 2 and 5 of each power of ten that the y values reach, for a logarithmic axis; none without one above 0."""
        values = [value for series in self.series for value in (*series.y, *series.low, *series.high)]
        above = [value for value in values if value is not None and value > 0]
        if not above:
            return []
        powers = range(math.floor(math.log10(min(above))), math.ceil(math.log10(max(above))) + 1)
        return [step * 10.0**power for power in powers for step in (1, 2, 5)]

    @property
    def table(self) -> Table:
        rows = [
            (s.name, "" if s.reference else self.told(x), number(y), number(low), number(high))
            for s in self.series
            for x, y, low, high in zip(s.x, s.y, s.low, s.high, strict=True)
        ]
        return Table(("line", self.x_label, self.y_label, "interval from", "to"), tuple(rows))


@dataclass(frozen=True)
class Dot:
    """A number with its interval.

    Attributes:
        cells: further columns of the data table.
        faint: drawn hollow, for what is within noise.
        blind: drawn grey, for what no number of this size could tell apart.
    """

    label: str
    value: Number
    low: Number
    high: Number
    cells: tuple[str, ...] = ()
    style: int = 0
    faint: bool = False
    blind: bool = False


@dataclass(frozen=True)
class Dots:
    """Numbers with intervals, one below the other; zero is marked where they are differences."""

    title: str
    about: str
    label: str
    x_label: str
    dots: tuple[Dot, ...]
    columns: tuple[str, ...] = ()
    zero: bool = False

    @property
    def table(self) -> Table:
        rows = [(d.label, number(d.value), number(d.low), number(d.high), *d.cells) for d in self.dots]
        return Table((self.label, self.x_label, "interval from", "to", *self.columns), tuple(rows))


@dataclass(frozen=True)
class Panel:
    """A map's title and values, a row for each y, None where there is none."""

    title: str
    values: tuple[tuple[Number, ...], ...]


@dataclass(frozen=True)
class Heat:
    """Maps that share axes and colours.

    Attributes:
        x, y: labels of columns and rows.
        unit: what the colours mean.
        low, high: ends of the colours.
        log: colours follow the logarithm.
        diverging: the middle of the colours is zero.
    """

    title: str
    about: str
    x_label: str
    y_label: str
    x: tuple[str, ...]
    y: tuple[str, ...]
    panels: tuple[Panel, ...]
    unit: str
    low: float
    high: float
    log: bool = False
    diverging: bool = False

    def share(self, value: float) -> float:
        """Where a value lies between the ends of the colours, 0 to 1."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        at = math.log(max(value, self.low)) if self.log else value
        return 0.5 if high == low else min(max((at - low) / (high - low), 0.0), 1.0)

    def at(self, share: float) -> float:
        """The value whose colour lies there, the inverse of `share`."""
        if self.log:
            return self.low * (self.high / self.low) ** share
        return self.low + share * (self.high - self.low)

    @property
    def table(self) -> Table:
        rows = [
            (panel.title, name, *map(number, row))
            for panel in self.panels
            for name, row in zip(self.y, panel.values, strict=True)
        ]
        return Table(("map", f"{self.y_label} \\ {self.x_label}", *self.x), tuple(rows))


Figure = Lines | Dots | Heat


@dataclass(frozen=True)
class Kind:
    """Maps of one kind of number and of one size, two or more.

    Attributes:
        name: what the numbers are.
        about: what the difference of two maps means, a sentence.
        unit: the same at the scale of its colours.
        x_label, y_label: of columns and rows.
        ratio: whether two are compared by the base-2 logarithm of their ratio, or one subtracted from the other.
    """

    name: str
    about: str
    unit: str
    x_label: str
    y_label: str
    panels: tuple[Panel, ...]
    ratio: bool = False

    @property
    def difference(self) -> Heat:
        """The figure of a difference, with the numbers of the first map and colours from -1 to 1."""
        rows = self.panels[0].values
        x, y = (tuple(map(str, range(count))) for count in (len(rows[0]), len(rows)))
        return Heat("", self.about, self.x_label, self.y_label, x, y, self.panels[:1], self.unit, -1, 1, diverging=True)


@dataclass(frozen=True)
class Group:
    """Figures of one kind, shown one at a time.

    Attributes:
        key: for links and file names.
        pairs: maps of which the reader of a page picks any two to see their difference.
    """

    key: str
    title: str
    about: str
    figures: tuple[Figure, ...]
    pairs: tuple[Kind, ...] = ()


def named(groups: list[Group]) -> Iterator[tuple[str, Figure]]:
    """Each figure with a file name of its own, without an ending."""
    for group in groups:
        for index, figure in enumerate(group.figures, start=1):
            words = "".join(c if c.isascii() and c.isalnum() else "-" for c in figure.title.lower())
            yield f"{group.key}-{index:02d}-{'-'.join(filter(None, words.split('-')))[:60]}", figure


def number(value: Number) -> str:
    """Four digits that count, and nothing where there is no number."""
    if value is None or math.isnan(value):
        return ""
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e7 else f"{value:.4g}"
