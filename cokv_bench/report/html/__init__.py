"""A report as one HTML file that opens from disk, without a network."""

from cokv_bench.report.html.page import write_page

__all__ = ["write_page"]
