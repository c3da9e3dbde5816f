"""Budgets searched at the deployed total: which split over the KV heads serves best."""

from cokv_bench.search.examples import SearchExamples
from cokv_bench.search.search import Stopping, search

__all__ = ["SearchExamples", "Stopping", "search"]
