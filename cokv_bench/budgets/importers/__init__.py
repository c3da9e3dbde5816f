"""Published head scores, read from their authors' files into this project's own."""

from cokv_bench.budgets.importers.convert import Import, convert
from cokv_bench.budgets.importers.layouts import Layout

__all__ = ["Import", "Layout", "convert"]
