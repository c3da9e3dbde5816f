"""What it costs to choose among methods for one prompt, as a share of that prompt's prefill.

python scripts/bench_probes.py --lengths 2048 --json results/smollm2-135m/bench_probes.json

Selecting with every method, which each way to choose needs, and then each probe of scripts/probes.py, on a prompt on
which nothing has been computed before. Prefill is timed in the same rounds. Needles of one length.
"""

import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer

from cokv_bench import plugins
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.cli.groups import Only, grouped
from cokv_bench.game.utilities import UTILITIES, Case
from cokv_bench.kvcache import prefill
from cokv_bench.models.spec import ModelSpec
from cokv_bench.policies.drafts import prepare
from cokv_bench.runs.methods import MethodSettings
from cokv_bench.runs.versions import versions
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.prompts import Encoding, encode_parts
from cokv_bench.tasks.registry import resolve

_BUDGET = 64
_PROBES = Path(__file__).with_name("probes.py")
_SELECTING = "selecting"


@grouped
def main(
    model: ModelSpec,
    method: Annotated[str, typer.Option(help="Methods to choose among, with commas.")],
    tasks: Annotated[TaskOptions, Only("lengths")] = TaskOptions(lengths=(2048,), examples=1),  # noqa: B008 - frozen
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; medians are told.")] = 3,
    json_file: o.JsonFile = None,
) -> None:
    """Time prefill, all methods' selections, and each probe of them."""
    plugins.load_all([_PROBES])
    probes = [name for name in UTILITIES if name.startswith("draft-") or name == "kept-attention"]
    loaded = o.load(model)
    (task,) = resolve(("needle",), loaded, tasks)
    example = task.examples("profile")[0]
    ids = encode_parts(loaded, example, Encoding()).prompt
    policies = [MethodSettings().policy(name, None) for name in method.split(",")]
    sees = max(policy.sees(8) for policy in policies)
    seconds: dict[str, list[float]] = {name: [] for name in ("prefill", _SELECTING, *probes)}
    for _ in range(repeats):
        started = time.perf_counter()
        prompt = prefill(loaded, ids, window=sees, accumulated_attention=False)
        seconds["prefill"].append(time.perf_counter() - started)
        fresh = replace(prompt, memo={}, shared={})
        started = time.perf_counter()
        prepare(fresh, [(policy, _BUDGET) for policy in policies])
        selections = [policy.select(fresh, _BUDGET) for policy in policies]
        seconds[_SELECTING].append(time.perf_counter() - started)
        for name in probes:
            case = Case(loaded, task, example, replace(prompt, memo={}, shared={}))
            started = time.perf_counter()
            UTILITIES.get(name).measure(case, selections)
            seconds[name].append(time.perf_counter() - started)
    prefilled = median(seconds["prefill"])
    rows = {name: round(median(found) / prefilled, 4) for name, found in seconds.items() if name != "prefill"}
    for name, share in rows.items():
        o.console.print(f"{name:16} {share:8.2%} of prefill")
    figures = {
        "model": loaded.fingerprint,
        "threads": torch.get_num_threads(),
        "tokens": len(ids),
        "methods": [policy.name for policy in policies],
        "budget": _BUDGET,
        "repeats": repeats,
        "prefill_seconds": round(prefilled, 6),
        "of_prefill": rows,
        "versions": versions(),
    }
    o.save_figures(json_file, figures)


if __name__ == "__main__":
    run_script(main)
