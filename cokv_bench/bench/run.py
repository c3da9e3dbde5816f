"""All measurements of a benchmark, in an order in which a drift of the machine meets every method alike."""

import gc
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from cokv_bench.bench.measure import Reading, Settings, measure
from cokv_bench.bench.memory import give_back
from cokv_bench.bench.plan import BenchRequest
from cokv_bench.bench.table import bench_table
from cokv_bench.budget import written
from cokv_bench.files import write_json, write_text
from cokv_bench.models import Model
from cokv_bench.runs.plan import Variant
from cokv_bench.runs.versions import versions

Progress = Callable[[int, int | None, str], None]


def bench(model: Model, request: BenchRequest, folder: Path, progress: Progress, *, command: str = "") -> pd.DataFrame:
    """Measure every method at every budget and length, in rounds: each round measures everything once.

    FullKV is always among them, and ratios to it are of medians over the same rounds. Before the first round each
    method is run once, with two new tokens, on the shortest prompt. The prompt is random token ids, the same for all
    methods: speed and memory do not depend on what it says. What does not fit the device is noted and not tried
    again. `bench.csv` is written anew after every measurement, so a stopped run keeps what it has.

    Args:
        folder: for bench.csv and run.json.
        progress: called with (done, total, note).
        command: how the run was asked for, for run.json.

    Returns:
        The rows of bench.csv (docs/bench.md).

    Raises:
        RequestError: the request does not fit the model, or the folder cannot be written.
    """
    variants = request.variants(model)
    settings = Settings(request.new_tokens, request.rows, request.window, request.chunk)
    prompt = _prompt(model, max(request.lengths), request.seed)
    write_json(folder / "run.json", _description(model, request, command))
    readings: dict[tuple[int, Variant], list[Reading] | None] = {
        (tokens, variant): [] for tokens in request.lengths for variant in variants
    }
    table = bench_table(model, request, readings)
    done, total = 0, len(variants) + request.repeats * len(readings)
    with _short_collections():
        for variant in variants:
            progress(done, total, f"warming up, {_name(variant)}")
            _attempt(model, prompt[: min(request.lengths)], variant, replace(settings, new_tokens=2))
            done += 1
        for number in range(request.repeats):
            for (tokens, variant), measured in readings.items():
                progress(done, total, f"round {number + 1}, {_name(variant)}, {tokens} tokens")
                done += 1
                if measured is None:
                    continue
                reading = _attempt(model, prompt[:tokens], variant, settings)
                if reading is None:
                    readings[tokens, variant] = None
                else:
                    measured.append(reading)
                table = _save(bench_table(model, request, readings), folder)
    progress(done, total, "done")
    return table


@contextmanager
def _short_collections() -> Iterator[None]:
    """Let Python's garbage collector pass over what is there already.

    Else it walks all that was ever imported, for as long as several decoded tokens take, in whatever is measured.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _attempt(model: Model, token_ids: Tensor, variant: Variant, settings: Settings) -> Reading | None:
    """A measurement, or None where the device has too little memory for it."""
    try:
        return measure(model, token_ids, variant, settings)
    except torch.OutOfMemoryError:
        pass
    except RuntimeError as error:
        # A CPU's allocator has no error of its own.
        if "DefaultCPUAllocator" not in str(error):
            raise
    # Outside the handler, which holds the tensors of the call that failed.
    give_back(model.device)
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _save(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    write_text(folder / "bench.csv", table.to_csv(index=False, float_format="%.6g"))
    return table


def _prompt(model: Model, tokens: int, seed: int) -> Tensor:
    """Random ids int64 [tokens] on the model's device, the same on every device."""
    vocabulary = model.network.get_input_embeddings().num_embeddings
    ids = torch.randint(vocabulary, (tokens,), generator=torch.Generator().manual_seed(seed))
    return ids.to(model.device)


def _name(variant: Variant) -> str:
    return variant.method if variant.budget is None else f"{variant.method} {variant.budget}"


def _description(model: Model, request: BenchRequest, command: str) -> dict[str, object]:
    on_gpu = model.device.type == "cuda"
    return {
        "command": command,
        "model": model.fingerprint,
        "device": torch.cuda.get_device_name(model.device) if on_gpu else platform.processor() or platform.machine(),
        "dtype": str(model.network.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "methods": request.methods,
        "budgets": [written(budget) for budget in request.budgets],
        "lengths": request.lengths,
        "new_tokens": request.new_tokens,
        "rows": request.rows,
        "repeats": request.repeats,
        "chunk": request.chunk,
        "window": request.window,
        "seed": request.seed,
        "versions": versions(),
    }
