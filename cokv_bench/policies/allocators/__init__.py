"""Allocators: how many tokens each KV head keeps, one method a file."""

from cokv_bench.policies.allocators.ada_pyramid import AdaPyramid
from cokv_bench.policies.allocators.adaptive import Adaptive, adaptive
from cokv_bench.policies.allocators.pyramid import Pyramid, pyramid
from cokv_bench.policies.allocators.static import EmbeddedBudgets, Static
from cokv_bench.policies.allocators.uniform import Uniform, uniform

__all__ = [
    "AdaPyramid",
    "Adaptive",
    "EmbeddedBudgets",
    "Pyramid",
    "Static",
    "Uniform",
    "adaptive",
    "pyramid",
    "uniform",
]
