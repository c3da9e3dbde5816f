"""Which coalitions to measure: seeded plans that can be extended at any time, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from cokv_bench.errors import unknown
from cokv_bench.game.sampling.base import SamplingPlan
from cokv_bench.game.sampling.neyman import NeymanPlan
from cokv_bench.game.sampling.pairs import AntitheticPlan, Plan, WalkPlan
from cokv_bench.game.sampling.sizes import all_strata, paper_slices
from cokv_bench.game.sampling.uniform import UniformPlan


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


SAMPLINGS: dict[str, Sampling] = {
    sampling.name: sampling
    for sampling in (
        Sampling(
            "slices",
            "pairs of complements of four sizes, n/8 to n/2 (CoKV)",
            lambda players, seed: Plan(players, paper_slices(players), seed, "slices"),
        ),
        Sampling(
            "strata",
            "pairs of complements of all sizes in turn",
            lambda players, seed: Plan(players, all_strata(players), seed, "strata"),
        ),
        Sampling("neyman", "pairs of complements, most from the sizes that spread most in a pilot", NeymanPlan),
        Sampling(
            "antithetic", "the four sizes of CoKV, two coalitions without a common player at a time", AntitheticPlan
        ),
        Sampling("permutation", "walks from nobody to everybody along random orders and their reverses", WalkPlan),
        Sampling("uniform", "pairs of complements, each player in with probability 1/2", UniformPlan),
    )
}


def get_sampling(name: str) -> Sampling:
    """The sampling of that name.

    Raises:
        RequestError: no such sampling, with the nearest names.
    """
    if name not in SAMPLINGS:
        raise unknown("sampling", name, SAMPLINGS)
    return SAMPLINGS[name]


__all__ = [
    "SAMPLINGS",
    "AntitheticPlan",
    "NeymanPlan",
    "Plan",
    "Sampling",
    "SamplingPlan",
    "UniformPlan",
    "WalkPlan",
    "all_strata",
    "get_sampling",
    "paper_slices",
]
