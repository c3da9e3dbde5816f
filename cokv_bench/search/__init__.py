"""Budgets searched at the deployed total: which split over the KV heads serves best."""

from cokv_bench.limits import SearchLimits
from cokv_bench.search.examples import SearchExamples
from cokv_bench.search.search import search, search_experts

#: The earlier name, for a release: `cokv_bench.game.stopping` has a class of that name too.
Stopping = SearchLimits

__all__ = ["SearchExamples", "SearchLimits", "search", "search_experts"]
