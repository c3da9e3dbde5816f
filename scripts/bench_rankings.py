"""What each ranking costs: choosing 64 tokens per head of one prompt, as a share of that prompt's prefill.

python scripts/bench_rankings.py --lengths 2048 --json results/smollm2-135m/bench_rankings.json

Needles of one length. Each ranking has its published window, and a prompt on which nothing has been computed before.
Prefill is timed in the same rounds, without the signals that only some rankings need.
"""

import json
import time
from dataclasses import replace
from statistics import median
from typing import Annotated, Any

import torch
import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.cli.groups import Only, grouped
from cokv_bench.kvcache import Prompt, prefill
from cokv_bench.kvcache.prefill import signals
from cokv_bench.models.spec import ModelSpec
from cokv_bench.policies.drafts import prepare
from cokv_bench.policies.registry import find_method
from cokv_bench.registries import SCORERS
from cokv_bench.runs.methods import MethodSettings
from cokv_bench.runs.versions import versions
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.prompts import Encoding, encode_parts
from cokv_bench.tasks.registry import resolve

_BUDGET = 64


@grouped
def main(
    model: ModelSpec,
    tasks: Annotated[TaskOptions, Only("lengths")] = TaskOptions(lengths=(2048,), examples=1),  # noqa: B008 - frozen
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; medians are told.")] = 3,
    json_file: o.JsonFile = None,
) -> None:
    """Time all rankings and prefill on a needle of the first length."""
    loaded = o.load(model)
    (task,) = resolve(("needle",), loaded, tasks)
    ids = encode_parts(loaded, task.examples("profile")[0], Encoding()).prompt
    policies = {f"{name}+uniform": MethodSettings().policy(f"{name}+uniform", None) for name in SCORERS}
    sees = max(policy.sees(8) for policy in policies.values())
    needs = frozenset[str]().union(*(find_method(name).needs for name in policies))
    whole = prefill(loaded, ids, window=sees, **signals(needs), question=())
    seconds: dict[str, list[float]] = {name: [] for name in policies}
    reading: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        prefill(loaded, ids, window=sees, accumulated_attention=False)
        reading.append(time.perf_counter() - started)
        for name, policy in policies.items():
            fresh: Prompt = replace(whole, memo={}, shared={})
            started = time.perf_counter()
            prepare(fresh, [(policy, _BUDGET)])
            policy.select(fresh, _BUDGET)
            seconds[name].append(time.perf_counter() - started)
    prefilled = median(reading)
    rows: list[dict[str, Any]] = [
        {
            "ranking": name.removesuffix("+uniform"),
            "window": policies[name].window,
            "seconds": round(median(found), 6),
            "of_prefill": round(median(found) / prefilled, 4),
        }
        for name, found in seconds.items()
    ]
    figures = {
        "model": loaded.fingerprint,
        "threads": torch.get_num_threads(),
        "tokens": len(ids),
        "repeats": repeats,
        "prefill_seconds": round(prefilled, 6),
        "prefill_lowest_highest": [round(min(reading), 3), round(max(reading), 3)],
        "rankings": rows,
        "versions": versions(),
    }
    for row in rows:
        o.console.print(f"{row['ranking']:14} {1000 * row['seconds']:9.1f} ms {row['of_prefill']:8.2%} of prefill")
    o.console.print_json(json.dumps({"tokens": len(ids), "prefill_seconds": figures["prefill_seconds"]}))
    o.save_figures(json_file, figures)


if __name__ == "__main__":
    run_script(main)
