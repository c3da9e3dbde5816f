"""Which coalitions to measure: seeded plans that can be extended at any time, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from cokv_bench.game.sampling.base import SamplingPlan
from cokv_bench.game.sampling.neyman import NeymanPlan
from cokv_bench.game.sampling.pairs import AntitheticPlan, SizesPlan, WalkPlan
from cokv_bench.game.sampling.sizes import all_strata, paper_slices
from cokv_bench.game.sampling.uniform import UniformPlan
from cokv_bench.registries import SAMPLINGS


@dataclass(frozen=True)
class Sampling:
    """One way of choosing coalitions.

    Attributes:
        name: as on the command line and in the header of a ledger.
        description: one line.
        plan: (players, seed) -> plan; raises RequestError for either out of range.
    """

    name: str
    description: str
    plan: Callable[[int, int], SamplingPlan]


SLICES = Sampling(
    "slices",
    SAMPLINGS.line("slices"),
    lambda players, seed: SizesPlan(players, paper_slices(players), seed, "slices"),
)
STRATA = Sampling(
    "strata",
    SAMPLINGS.line("strata"),
    lambda players, seed: SizesPlan(players, all_strata(players), seed, "strata"),
)
NEYMAN = Sampling("neyman", SAMPLINGS.line("neyman"), NeymanPlan)
ANTITHETIC = Sampling("antithetic", SAMPLINGS.line("antithetic"), AntitheticPlan)
PERMUTATION = Sampling("permutation", SAMPLINGS.line("permutation"), WalkPlan)
UNIFORM = Sampling("uniform", SAMPLINGS.line("uniform"), UniformPlan)


def get_sampling(name: str) -> Sampling:
    """The sampling of that name.

    Raises:
        RequestError: no such sampling, with the nearest names.
    """
    return SAMPLINGS.get(name)


__all__ = [
    "SAMPLINGS",
    "AntitheticPlan",
    "NeymanPlan",
    "Sampling",
    "SamplingPlan",
    "SizesPlan",
    "UniformPlan",
    "WalkPlan",
    "all_strata",
    "get_sampling",
    "paper_slices",
]
