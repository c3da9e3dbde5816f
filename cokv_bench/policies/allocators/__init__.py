"""Allocators: how many tokens each KV head keeps, one method a file."""

from cokv_bench.policies.allocators.ada_pyramid import AdaPyramid
from cokv_bench.policies.allocators.adaptive import Adaptive, adaptive
from cokv_bench.policies.allocators.all_heads import AllHeads
from cokv_bench.policies.allocators.cake import ByPreference
from cokv_bench.policies.allocators.lava import ByEntropy
from cokv_bench.policies.allocators.pyramid import Pyramid, pyramid
from cokv_bench.policies.allocators.static import ByScores, ByShares, ByValues, EmbeddedBudgets, Static
from cokv_bench.policies.allocators.uniform import Uniform, uniform

__all__ = [
    "AdaPyramid",
    "Adaptive",
    "AllHeads",
    "ByEntropy",
    "ByPreference",
    "ByScores",
    "ByShares",
    "ByValues",
    "EmbeddedBudgets",
    "Pyramid",
    "Static",
    "Uniform",
    "adaptive",
    "pyramid",
    "uniform",
]
