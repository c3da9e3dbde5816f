"""Tables whose rows are drawn: CSV, Markdown, records of keys and values, JSON lines."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from cokv_bench.tasks.recall.dice import Dice
from cokv_bench.tasks.recall.fill import Words

# What rows are about: the head of the first column, and the list that it is drawn from.
_SUBJECTS = (("item", "thing"), ("company", "firm"), ("dish", "dish"), ("site", "site"))
# Lists behind the four words of an entry of `columns`.
_KINDS = ("person", "money", "town", "number")
_FORMS = ("csv", "markdown", "records", "json", "tabs")


@dataclass(frozen=True)
class Listing:
    """A table without end.

    Attributes:
        form: "csv", "markdown", "records", "json" or "tabs".
        subject: head of the first column.
        columns: list behind each other column, by its head.
    """

    words: Words
    dice: Dice
    form: str
    subject: tuple[str, str]
    columns: Mapping[str, str]

    @classmethod
    def drawn(cls, words: Words, dice: Dice) -> "Listing":
        """A table of two to four columns beside the first."""
        heads = words.entry("columns", dice).split(", ")
        columns = dict(dice.some(list(zip(heads, _KINDS, strict=True)), 2 + dice.below(3)))
        return cls(words, dice, dice.pick(_FORMS), dice.pick(_SUBJECTS), columns)

    @cached_property
    def head(self) -> str:
        """What stands above the rows; empty where each row names its columns."""
        heads = [self.subject[0], *self.columns]
        if self.form == "markdown":
            return "\n" + self._bars(heads) + "\n" + self._bars(["---"] * len(heads))
        return {"csv": "\n" + ", ".join(heads), "tabs": "\n" + "\t".join(heads)}.get(self.form, "")

    def row(self, i: object) -> dict[str, str]:
        """The cells of a row by their heads."""
        own = self.dice.of("row", i)
        kinds = {self.subject[0]: self.subject[1], **self.columns}
        return {head: self.words.value(kind, own) for head, kind in kinds.items()}

    def line(self, row: Mapping[str, str]) -> str:
        """A row as it is written, with the line break before it."""
        cells = list(row.values())
        if self.form == "markdown":
            return "\n" + self._bars(cells)
        if self.form == "records":
            return "\n" + "; ".join(f"{head}: {cell}" for head, cell in row.items())
        if self.form == "json":
            return "\n" + json.dumps(dict(row), ensure_ascii=False)
        return "\n" + ("\t" if self.form == "tabs" else ", ").join(cells)

    def others(self, unsaid: Collection[str]) -> Callable[[int], str]:
        """The rows of the numbers 0, 1, ..., none of which has one of these cells."""
        listing = replace(self, words=self.words.without(unsaid))
        return lambda i: listing.line(listing.row(i))

    @staticmethod
    def _bars(cells: list[str]) -> str:
        return f"| {' | '.join(cells)} |"
