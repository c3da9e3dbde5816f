"""Runs: plan a grid, execute it with one prefill an example, keep every record, tabulate."""

from cokv_bench.runs.execute import execute
from cokv_bench.runs.plan import Plan, Variant, make_plan
from cokv_bench.runs.tables import write_tables

__all__ = ["Plan", "Variant", "execute", "make_plan", "write_tables"]
