"""What a paper's main table takes: LongBench's 16 tasks at 26 cells, beside cell by cell and the least it could take.

    python scripts/bench_table.py --json results/gpu/bench_table.json

A sample of rows has the lengths of real rows (scripts/longbench_lengths.json, tokens of the embedded tokenizer, cut to
8k) and the answer limits of their tasks, each task as often as it has rows in the table. Tokens and weights are random,
in the shape of Llama-3-8B: time depends on shapes alone. No answer ends before its limit, so times are upper bounds.

(grid)  FullKV and five methods at five budgets as `eval` runs them: an example is prefilled once;
(full)  FullKV alone in the same way;
(cells) each cell with a prefill of its own and transformers' `generate`: two cells are timed on a few rows, and their
        seconds for a prompt token and for a step stand for all rows and cells;
(floor) operations of prefill at the speed of the fastest matrix product, and bytes of weights and kept keys and values
        of the steps at the fastest reading or copying, measured in this run; rows share steps as far as they can;
(step)  a step of the 26 rows of one prompt of the longest length, beside its own floor.

The file is written after each of these, so a run that is cut short keeps what it has.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer

from cokv_bench.bench.measure import Reading, Settings, measure
from cokv_bench.bench.plan import BenchRequest
from cokv_bench.bench.shapes import random_model
from cokv_bench.bench.timing import clock, seconds
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.costs.estimate import Load, Shape, estimate
from cokv_bench.engines import Call, Engine, LocalWorkers
from cokv_bench.engines.streaming import StreamingEngine
from cokv_bench.kvcache import Generation, prefill
from cokv_bench.kvcache.decoding import Decoding, Work, finish
from cokv_bench.kvcache.stream import SIZES
from cokv_bench.models import Model, load_model
from cokv_bench.runs.plan import Variant
from cokv_bench.runs.versions import versions
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.longbench.sizes import published_rows
from cokv_bench.tasks.longbench.specs import spec_of
from cokv_bench.tasks.prompts import encode_parts
from cokv_bench.tasks.registry import TaskOptions, resolve

LENGTHS = Path(__file__).with_name("longbench_lengths.json")
METHODS = ("snapkv", "pyramidkv", "ada-snapkv", "ada-pyramid", "streaming-llm")
BUDGETS = (64, 128, 256, 512, 1024)
#: Of the 3,750 published rows, those of the test split.
TABLE_ROWS = 2850
_WINDOW = 8
_READ_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class Row:
    """A call like an evaluation, of random tokens."""

    ids: torch.Tensor
    new: int
    variants: Sequence[Variant]

    def __call__(self, model: Model) -> list[Generation]:
        return finish(model, self.work(model))

    def work(self, model: Model) -> Work[list[Generation]]:
        prompt = prefill(model, self.ids, window=_WINDOW, accumulated_attention=False)
        choices = [variant.policy.select(prompt, variant.budget) for variant in self.variants]
        asked = [Decoding(prompt, choices, self.new)]
        del prompt, choices
        answers = yield asked.pop()
        return answers


def count(data_dir: Path) -> dict[str, list[int]]:
    """Tokens of the prompts of each task's rows, cut to the embedded model's context, ascending."""
    model = load_model()
    tasks = resolve(["longbench"], model, TaskOptions(data_dir=data_dir))
    return {
        task.name: sorted(len(encode_parts(model, each, Encoding()).prompt) for each in task.examples("all"))
        for task in tasks
    }


def sample(lengths: dict[str, list[int]], rows: int, longest: int) -> list[tuple[int, int]]:
    """Prompt and answer tokens of some rows: tasks by their rows in the table, and of each lengths evenly spaced."""
    share = {name: published_rows(name) for name in lengths}
    total = sum(share.values())
    # The rows of the table in order of their tasks, and every so many of them.
    found, ends, task = [], 0, iter(lengths)
    name, begin = "", 0
    for number in range(rows):
        place = (number + 0.5) * total / rows
        while place >= ends:
            name, begin = next(task), ends
            ends += share[name]
        held = lengths[name]
        tokens = held[min(len(held) - 1, int((place - begin) / share[name] * len(held)))]
        found.append((min(tokens, longest), spec_of(name).max_new_tokens))
    return found


def floor(model: Model, rows: Sequence[tuple[int, int]], speed: float, bandwidth: float) -> float:
    """Seconds below which no program gets: prefill by operations, steps by bytes."""
    shape = Shape.of(model)
    prefilling = estimate(shape, [Load(1, tokens, 1, 1) for tokens, _ in rows]).prefill / speed
    cells = 1 + len(METHODS) * len(BUDGETS)
    steps = max(max(new for _, new in rows), sum(cells * (new - 1) for _, new in rows) / SIZES[-1])
    kept = sum((tokens + len(METHODS) * sum(BUDGETS)) * (new - 1) * shape.token_bytes for tokens, new in rows)
    return prefilling + (steps * weight_bytes(model) + kept) / bandwidth


def weight_bytes(model: Model) -> int:
    """Bytes that a step reads: all weights but the rows of the embedding, of which it reads a few."""
    shape = Shape.of(model)
    return (shape.layer_weights + shape.output_weights) * shape.itemsize


def product_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the fastest of some matrix products, many launched at a time."""
    sides = (4096, 8192) if device.type == "cuda" else (512, 1024)
    queued = 8

    def once(side: int) -> float:
        left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        times = seconds(lambda: [left @ right for _ in range(queued)], 5, warm_up=2)
        return queued * 2.0 * side**3 / min(times)

    return max(map(once, sides))


def bandwidth_of(device: torch.device) -> float:
    """Bytes a second of reading or copying much, whichever is faster."""
    source = torch.zeros(_READ_BYTES // 4 if device.type == "cuda" else 2**22, device=device)
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / min(seconds(lambda: target.copy_(source), 5, warm_up=2))
    return max(copied, source.nbytes / min(seconds(source.sum, 5, warm_up=2)))


def cell_seconds(readings: Sequence[tuple[int, Reading]], rows: Sequence[tuple[int, int]]) -> float:
    """Seconds of one cell on all rows, from what was read of prompts of some tokens."""
    a_token = sum(each.prefill_s for _, each in readings) / sum(tokens for tokens, _ in readings)
    a_step = sum(each.decode_ms for _, each in readings) / len(readings) / 1000
    return sum(a_token * tokens + a_step * (new - 1) for tokens, new in rows)


def main(
    random_weights: Annotated[str, typer.Option(help="Shape of the model.")] = "llama3-8b",
    layers: Annotated[int | None, typer.Option(help="Fewer layers than the shape has.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the sample.")] = 32,
    longest: Annotated[int, typer.Option(help="Tokens that prompts are cut to.")] = 7950,
    cell_rows: Annotated[int, typer.Option(min=0, help="Rows that single cells are timed on.")] = 4,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. Default: a GPU if any.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Count lengths of these LongBench rows anew, and end.")] = None,
    json_file: o.JsonFile = None,
) -> None:
    """Measure, print and save."""
    if data_dir is not None:
        LENGTHS.write_text(json.dumps(count(data_dir)) + "\n", encoding="utf-8")
        return
    model = random_model(random_weights, layers=layers, device=device)
    model.network.generation_config.eos_token_id = None
    chosen = sample(json.loads(LENGTHS.read_text(encoding="utf-8")), rows, longest)
    chance = torch.Generator().manual_seed(0)
    ids = [torch.randint(0, model.config.vocab_size, (tokens,), generator=chance) for tokens, _ in chosen]
    shortest = min(tokens for tokens, _ in chosen)
    variants = BenchRequest(METHODS, BUDGETS, (shortest, longest), window=_WINDOW).variants(model)

    engine = LocalWorkers(model).open(lambda held: held)

    def run(cells: Sequence[Variant]) -> float:
        calls = [Call(n, Row(part, new, cells)) for n, (part, (_, new)) in enumerate(zip(ids, chosen, strict=True))]
        started = clock(model.device)
        done = list(engine.results(calls))
        assert all(len(answers) == len(cells) for _, answers in done)
        return clock(model.device) - started

    speed, bandwidth = product_speed(model.device, model.network.dtype), bandwidth_of(model.device)
    figures: dict[str, Any] = {
        "model": model.name,
        "device": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "cpu",
        "dtype": str(model.network.dtype).removeprefix("torch."),
        "versions": versions(),
        "rows": chosen,
        "cells": len(variants),
        "matrix_operations_per_second": speed,
        "bytes_per_second": bandwidth,
    }

    def keep(**more: Any) -> None:
        figures.update(more)
        o.console.print_json(json.dumps(more))
        o.save_figures(json_file, figures)

    # Kernels are compiled, and steps of every size are captured.
    warm = [Call(n, Row(ids[0][:shortest], 3, variants)) for n in range(math.ceil(SIZES[-1] / len(variants)))]
    assert len(list(engine.results(warm))) == len(warm)
    full, grid, least = run(variants[:1]), run(variants), floor(model, chosen, speed, bandwidth)
    keep(
        seconds={"grid": grid, "full": full, "floor": least},
        grid_to_full=grid / full,
        grid_to_floor=grid / least,
        table_hours=grid / rows * TABLE_ROWS / 3600,
        few_kernels=isinstance(engine, StreamingEngine) and engine.few_kernels,
    )
    keep(step=step_figures(model, engine, longest, variants, bandwidth))
    if cell_rows:
        every = max(1, len(ids) // cell_rows)
        readings = [
            (len(part), measure(model, part.to(model.device), variant, Settings(new, 1, _WINDOW, replayed=False)))
            for part, (_, new) in list(zip(ids, chosen, strict=True))[every // 2 :: every]
            for variant in (variants[0], variants[1])
        ]
        cells = len(variants) * cell_seconds(readings, chosen)
        keep(cells_seconds=cells, cells_to_grid=cells / grid)


def step_figures(
    model: Model, engine: Engine[Model], tokens: int, variants: Sequence[Variant], bandwidth: float
) -> dict[str, float]:
    """Milliseconds of a step of all cells of one prompt, from answers of two lengths, and of reading what it must."""
    ids = torch.randint(0, model.config.vocab_size, (tokens,), generator=torch.Generator().manual_seed(1))
    kept = tokens + len(METHODS) * sum(BUDGETS)

    def took(new: int) -> float:
        started = clock(model.device)
        assert len(list(engine.results([Call(0, Row(ids, new, variants))]))) == 1
        return clock(model.device) - started

    steps = (9, 9 + 128)
    took(steps[0])
    each = [(took(steps[1]) - took(steps[0])) / (steps[1] - steps[0]) for _ in range(3)]
    floor_s = (weight_bytes(model) + kept * Shape.of(model).token_bytes) / bandwidth
    found = {"ms": 1000 * median(each), "floor_ms": 1000 * floor_s}
    return {**found, "to_floor": found["ms"] / found["floor_ms"] if found["floor_ms"] else math.nan}


if __name__ == "__main__":
    run_script(main)
