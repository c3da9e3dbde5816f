"""Tables as cells of text, before they are written as Markdown or LaTeX, into a page or a terminal."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cokv_bench.budget import Budget, PromptShare


@dataclass(frozen=True)
class Cell:
    """Plain text with its marks; whoever writes it escapes the text.

    Attributes:
        bold: the best of its budget.
        differs: the paired comparison with the baseline is not within noise.
        uncompared: there is no comparison, for the totals are unequal.
        interval: of a score, for tables that have room for it; the tables of costs have that of what sums a run up.
        about: a sentence for those who point at it: what a method is, or why a score cannot tell methods apart.
        blind: whether it is such a score.
        ceiling: the name of a ceiling, which is no method.
    """

    text: str
    bold: bool = False
    differs: bool = False
    uncompared: bool = False
    interval: str = ""
    about: str = ""
    blind: bool = False
    ceiling: bool = False

    @property
    def marks(self) -> str:
        """What stands behind the text."""
        return "†" * self.differs + "‡" * self.uncompared


@dataclass(frozen=True)
class Grid:
    """A table: its header, and sections of rows, one a budget. The first column is text, the others are numbers."""

    caption: str
    header: tuple[str, ...]
    sections: tuple[tuple[tuple[Cell, ...], ...], ...]

    @property
    def cells(self) -> Iterable[Cell]:
        """All cells below the header."""
        return (cell for section in self.sections for row in section for cell in row)


def decimal(value: float | None, decimals: int = 1) -> str:
    """A number with so many decimals, and nothing where there is none."""
    # Rounded before it is printed, so that the same mean summed in another order prints the same.
    return "" if value is None or pd.isna(value) else f"{round(value, 6):.{decimals}f}"


def p_text(p: float | None) -> str:
    """A p-value as tables show it, and nothing where there is none."""
    return "<0.001" if p is not None and p < 0.001 else decimal(p, 3)


def p_phrase(p: float) -> str:
    """A p-value in a sentence."""
    return "p < 0.001" if p < 0.001 else f"p = {p_text(p)}"


def ends(low: float | None, high: float | None, decimals: int = 1) -> str:
    """An interval such as "0.1 to 0.3", and nothing where there is none."""
    texts = decimal(low, decimals), decimal(high, decimals)
    return " to ".join(texts) if all(texts) else ""


def budget_phrase(budget: Budget) -> str:
    """A budget in words."""
    return f"{budget} of the prompt" if isinstance(budget, PromptShare) else f"{budget} tokens per head"


def budget_text(budget: Any) -> str:
    """A budget of a table as it is shown, and nothing where there is none."""
    return "" if pd.isna(budget) else str(budget)
