"""The cooperative game: KV heads as players, coalitions, and estimators of what each head is worth."""

from cokv_bench.game.coalitions import Utility
from cokv_bench.game.estimators import ESTIMATORS, Estimate, estimate, get_estimator
from cokv_bench.game.exact import exact_shapley, exact_sliced
from cokv_bench.game.ledger import Ledger
from cokv_bench.game.ledger_format import LedgerHeader, Row
from cokv_bench.game.sampling import Plan, all_strata, paper_slices

__all__ = [
    "ESTIMATORS",
    "Estimate",
    "Ledger",
    "LedgerHeader",
    "Plan",
    "Row",
    "Utility",
    "all_strata",
    "estimate",
    "exact_shapley",
    "exact_sliced",
    "get_estimator",
    "paper_slices",
]
