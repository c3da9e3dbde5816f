"""What one pass over the grid saves: six methods at five budgets from one prefill, beside a pass for each cell.

python scripts/bench_sweep.py --lengths 2048 --examples 5 --json results/smollm2-135m/bench_sweep.json

On the same needles, one after the other so that all see the same machine:
(full)  a FullKV pass: prefill and greedy answer, the unit;
(grid)  all methods and budgets in one pass, FullKV not among them, one example after the other;
(eval)  the same for all examples as `eval` runs them, where rows of several examples share the steps of decoding;
(cells) one pass for each method and budget, each with a prefill of its own, as a harness runs that evaluates one
        setting a process. Its loading of the model is not counted.
"""

import json
import time
from dataclasses import replace
from statistics import median
from typing import Annotated, Any

import torch
import typer

from cokv_bench.budget import written
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.cli.groups import Only, grouped
from cokv_bench.engines import Call, LocalWorkers
from cokv_bench.models import Model
from cokv_bench.models.spec import ModelSpec
from cokv_bench.runs.evaluate import Answer, Evaluation
from cokv_bench.runs.grid import Grid
from cokv_bench.runs.plan import Job, Part, Plan, Variant
from cokv_bench.runs.request import Request, plan_request
from cokv_bench.runs.versions import versions
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.prompts import encode_parts

METHODS = ("streaming-llm", "snapkv", "pyramidkv", "ada-snapkv", "ada-pyramid", "cokv")


@grouped
def main(
    model: ModelSpec,
    grid: Annotated[Grid, Only("methods", "budgets")] = Grid(METHODS, (64, 128, 256, 512, 1024)),  # noqa: B008 - frozen
    tasks: Annotated[TaskOptions, Only("lengths", "examples")] = TaskOptions(lengths=(2048,), examples=5),  # noqa: B008
    cells: Annotated[int, typer.Option(min=0, help="Examples on which the cells run too; they take long.")] = 2,
    json_file: o.JsonFile = None,
) -> None:
    """Time a sweep in one pass, cell by cell, and FullKV alone, in one run on the same examples."""
    loaded = o.load(model)
    plan = plan_request(Request(replace(grid, methods=("full", *grid.methods)), tasks), loaded)
    rows = [_time(plan, loaded, job, with_cells=index < cells) for index, job in enumerate(plan.jobs)]
    together, same = _together(plan, loaded, [row.pop("answers") for row in rows])
    figures = {
        "model": loaded.fingerprint,
        "threads": torch.get_num_threads(),
        "methods": list(grid.methods),
        "budgets": [written(budget) for budget in grid.budgets],
        "examples": rows,
        "grid_to_full": median(row["grid"] / row["full"] for row in rows),
        "cells_to_grid": median(row["cells"] / row["grid"] for row in rows if "cells" in row) if cells else None,
        "eval": together,
        "eval_to_full": together / sum(row["full"] for row in rows),
        "same_answers": same and all(row.get("same_answers", True) for row in rows),
        "versions": versions(),
    }
    o.console.print_json(json.dumps({key: figures[key] for key in figures if key not in ("versions", "model")}))
    less = f" and {figures['cells_to_grid']:.1f} times less than cell by cell" if cells else ""
    o.tell(f"The grid costs {figures['grid_to_full']:.2f} times a FullKV pass{less} (medians over the examples).")
    o.tell(f"As `eval` runs it, where rows share steps, it costs {figures['eval_to_full']:.2f} times FullKV's passes.")
    o.save_figures(json_file, figures)


def _time(plan: Plan, model: Model, job: Job, *, with_cells: bool) -> dict[str, Any]:
    """Seconds of each way on one example; the FullKV pass before and after, so that drift shows in its spread."""
    full, others = _split(job)

    def run(variants: list[Variant]) -> tuple[float, list[Answer]]:
        evaluation = _evaluation(plan, model, job, variants)
        started = time.perf_counter()
        answers = evaluation(model)
        return time.perf_counter() - started, answers

    if job.number == 0:
        run(full)  # Warms up.
    before, _ = run(full)
    grid, answers = run(others)
    after, _ = run(full)
    spread = {"full": (before + after) / 2, "full_spread": abs(before - after)}
    tokens = answers[0].measured["prompt_tokens"]
    row: dict[str, Any] = {"tokens": tokens, **spread, "grid": grid, "answers": [each.texts for each in answers]}
    if with_cells:
        single = [run([variant]) for variant in others]
        row["cells"] = sum(seconds for seconds, _ in single)
        row["same_answers"] = [answer.texts for _, (answer,) in single] == row["answers"]
    return row


def _together(plan: Plan, model: Model, expected: list[list[tuple[str, ...]]]) -> tuple[float, bool]:
    """Seconds of all examples as `eval` runs them, and whether the answers are the expected ones."""
    calls = [Call(job.number, _evaluation(plan, model, job, _split(job)[1])) for job in plan.jobs]
    engine = LocalWorkers(model).open(lambda held: held)
    started = time.perf_counter()
    found = {call.number: [answer.texts for answer in answers] for call, answers in engine.results(calls)}
    seconds = time.perf_counter() - started
    return seconds, [found[job.number] for job in plan.jobs] == expected


def _split(job: Job) -> tuple[list[Variant], list[Variant]]:
    """FullKV, and all else."""
    variants = job.parts[0].variants
    return [each for each in variants if each.method == "full"], [each for each in variants if each.method != "full"]


def _evaluation(plan: Plan, model: Model, job: Job, variants: list[Variant]) -> Evaluation:
    (part,) = job.parts
    encoded = encode_parts(model, part.example, plan.encoding)
    return Evaluation(encoded, (Part(part.task, part.example, tuple(variants)),), plan.window)


if __name__ == "__main__":
    run_script(main)
