"""The cooperative game: KV heads as players, coalitions, and estimators of what each head is worth."""

from cokv_bench.game.coalitions import Utility
from cokv_bench.game.estimators import (
    ESTIMATORS,
    Estimate,
    Estimator,
    TooFewRowsError,
    estimate,
    get_estimator,
    register_estimator,
)
from cokv_bench.game.exact import exact_banzhaf, exact_cc, exact_shapley, exact_sliced
from cokv_bench.game.ledger import Ledger, LedgerHeader, Row
from cokv_bench.game.sampling import SAMPLINGS, SamplingPlan, SizesPlan, all_strata, get_sampling, paper_slices
from cokv_bench.game.stability import Stability, halves, stability

#: The earlier name, for a release: `cokv_bench.runs.plan` has a class of that name too.
Plan = SizesPlan

__all__ = [
    "ESTIMATORS",
    "SAMPLINGS",
    "Estimate",
    "Estimator",
    "Ledger",
    "LedgerHeader",
    "Row",
    "SamplingPlan",
    "SizesPlan",
    "Stability",
    "TooFewRowsError",
    "Utility",
    "all_strata",
    "estimate",
    "exact_banzhaf",
    "exact_cc",
    "exact_shapley",
    "exact_sliced",
    "get_estimator",
    "get_sampling",
    "halves",
    "paper_slices",
    "register_estimator",
    "stability",
]
