"""Whether Ada-KV's adaptation to each prompt adds to searched shares, which are the same for all prompts.

python scripts/adaptive_shares.py --tasks needle,ruler --budget 64 --out results/search/adaptive

Three ways to put the two together, beside each of them alone, at the same totals:
search+layers    each layer gets what the shares give its heads together, and its heads compete for that (Ada-KV)
search*ada^G     a head's share times the G-th power of what Ada-KV gives it relative to an equal share; G: 1/4, 1/2, 1
Writes the tables of `cokv-bench eval --utility loglik`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from cokv_bench.budgets import HeadShares, embedded
from cokv_bench.budgets.apportion import apportion
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.cli.groups import Only, grouped
from cokv_bench.cli.outcome import show_outcome
from cokv_bench.cli.progress import progress_bar
from cokv_bench.kvcache import Prompt
from cokv_bench.models.spec import ModelSpec
from cokv_bench.policies import Policy, register_policy
from cokv_bench.policies.allocators import Adaptive
from cokv_bench.policies.allocators.adaptive import adaptive
from cokv_bench.policies.policy import Scorer
from cokv_bench.policies.registry import ranking_policy
from cokv_bench.runs.execute import execute
from cokv_bench.runs.grid import Grid
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.request import Request, plan_request
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.options import TaskOptions


@dataclass(frozen=True)
class Layers:
    """Searched layers, adaptive heads."""

    shares: HeadShares

    def __call__(self, prompt: Prompt, scores: Sequence[Tensor], budget: int) -> Tensor:
        """int64 [layers, kv_heads]; a layer's total is a multiple of its heads, as `adaptive` takes it."""
        room, base = prompt.tokens - prompt.window, budget - prompt.window
        layers = np.exp(self.shares.log_shares(budget)).sum(axis=1)
        bases = apportion(layers / layers.max(), base * len(layers), room)
        return torch.stack([adaptive(layer, int(each)) for layer, each in zip(scores, bases, strict=True)])


@dataclass(frozen=True)
class Product:
    """Shares times a power of what Ada-KV gives."""

    shares: HeadShares
    power: float

    def __call__(self, prompt: Prompt, scores: Sequence[Tensor], budget: int) -> Tensor:
        """int64 [layers, kv_heads]."""
        room, base = prompt.tokens - prompt.window, budget - prompt.window
        given = Adaptive()(prompt, scores, budget).numpy()
        shares = self.shares.log_shares(budget) + self.power * np.log((given + 0.5) / (base + 0.5))
        return torch.from_numpy(apportion(np.exp(shares - shares.max()), base * shares.size, room))


@grouped
def main(
    model: ModelSpec,
    tasks: TaskOptions,
    encoding: Annotated[Encoding, Only("max_length")],
    grid: Annotated[Grid, Only("budgets", "split", "leave_out_seen")] = Grid(budgets=(64,), utility="loglik"),  # noqa: B008
    shares: Annotated[Path | None, typer.Option(help="Shares of a search. Default: the embedded ones.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the records and tables.")] = Path("results/search/adaptive"),
) -> None:
    """Register the combinations as methods and measure them."""
    found = HeadShares.load(shares or embedded.shares_path())
    combined: dict[str, Callable[[], Layers | Product]] = {"search+layers": lambda: Layers(found)}
    for power in (0.25, 0.5, 1.0):
        combined[f"search*ada^{power:g}"] = lambda power=power: Product(found, power)
    ranked = ranking_policy(found.scorer, kernel=found.kernel, pooling=found.pooling)
    # As the shares alone are deployed.
    window = {"window": found.window}
    observed = window if ranked.observe is None else {**window, "observe": ranked.observe}
    for name, allocator in combined.items():
        register_policy(name, "searched shares with Ada-KV's adaptation", _always(ranked), allocator, **observed)
    methods = ("full", "snapkv", "ada-snapkv", "cokv-search", *combined)
    request = Request(replace(grid, methods=methods), tasks, encoding, HeadSources(shares=shares))
    plan = plan_request(request, o.load(model))
    with progress_bar(o.progress_console, "Measuring", "prompt") as progress:
        execute(plan, out, progress)
    show_outcome(plan, out, ["cokv-search"], None)
    o.tell(f"Tables and records are in {out}")


def _always(ranked: Policy) -> Callable[[], Scorer]:
    scorer = ranked.scorer
    assert scorer is not None
    return lambda: scorer


if __name__ == "__main__":
    run_script(main)
