"""What a step of a search costs on a model with random weights in a known shape, beside its prefill.

python scripts/bench_search.py --json results/search/bench_search.json

Two depths of that shape are measured and a line through them is extended to all its layers: what is measured and what
is extrapolated is told apart in the output. A step reads ten answers over their prompts, forward and back; a scoring
of as many answers is the forward pass alone. Prompts are random ids. To try the script, take a smaller shape.
"""

import os
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import torch
import typer

from cokv_bench.bench.shapes import PRESETS, check_preset, random_model
from cokv_bench.bench.timing import seconds
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import prefill
from cokv_bench.kvcache.ranked import RankedRow, answer_logprobs, by_rank
from cokv_bench.models import Model
from cokv_bench.option import integers
from cokv_bench.policies import get_policy
from cokv_bench.runs.versions import versions
from cokv_bench.search.climb import BATCH
from cokv_bench.search.shares import split

_WINDOW = 8


def measure(model: Model, length: int, answer: int, budget: int, repeats: int) -> dict[str, float]:
    """Median seconds of a prefill, of a step and of a scoring, and the bytes of one prompt's cache."""
    ids = torch.randint(0, model.config.vocab_size, (length,), generator=torch.Generator().manual_seed(0)).tolist()
    prompts = []
    found = {
        "prefill_seconds": _median(
            lambda: prompts.append(prefill(model, ids, window=_WINDOW, accumulated_attention=False)), repeats
        )
    }
    prompt = by_rank(prompts[-1], get_policy("snapkv").ranks(prompts[-1]))
    prompts.clear()
    heads = model.layers * model.kv_heads
    kept = torch.full((model.layers, model.kv_heads), budget - _WINDOW)
    log_shares = torch.zeros(model.layers, model.kv_heads, requires_grad=True)

    def rows(gradient: bool) -> list[RankedRow]:
        texts = torch.tensor(ids[:answer])
        wanted = split(log_shares, (budget - _WINDOW) * heads, length - _WINDOW) if gradient else None
        return [RankedRow(prompt, torch.tensor(ids[:1]), texts, kept, wanted) for _ in range(BATCH)]

    def score() -> None:
        with torch.no_grad():
            answer_logprobs(model, rows(False))

    found["step_seconds"] = _median(lambda: answer_logprobs(model, rows(True)).sum().backward(), repeats)
    found["scoring_seconds"] = _median(score, repeats)
    return {**found, "prompt_bytes": float(prompt.nbytes)}


def _median(work: Callable[[], Any], repeats: int) -> float:
    return float(np.median(seconds(work, repeats)))


def extend(depths: list[int], measured: list[dict[str, float]], layers: int) -> dict[str, float]:
    """What the lines through the measured depths say of a number of layers."""
    return {
        name: float(np.polyval(np.polyfit(depths, [each[name] for each in measured], 1), layers))
        for name in measured[0]
    }


def main(
    random_weights: Annotated[str, typer.Option(help="Shape of the model.")] = "llama3-8b",
    depths: Annotated[str, typer.Option(help="Numbers of layers to measure, at least two.")] = "1,2",
    length: Annotated[int, typer.Option(help="Prompt tokens.")] = 2048,
    answer: Annotated[int, typer.Option(help="Tokens of an answer.")] = 24,
    budget: Annotated[int, typer.Option(help="Tokens per KV head.")] = 128,
    repeats: Annotated[int, typer.Option(help="Measurements, of which the median counts.")] = 3,
    prompts: Annotated[int, typer.Option(help="Of the search whose cost is told.")] = 200,
    steps: Annotated[int, typer.Option(help="Of the search whose cost is told.")] = 100,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. Default: a GPU if any.")] = None,
    json_file: o.JsonFile = None,
) -> None:
    """Measure each depth, print and save."""
    check_preset(random_weights, None)
    shape = PRESETS[random_weights]
    deepest, counts = shape["num_hidden_layers"], integers(depths, "depth")
    if len(set(counts)) < 2 or max(counts) > deepest:
        raise RequestError(f"No line goes through the depths '{depths}'; give two of 1 to {deepest}, such as 1,2.")
    if not _WINDOW < budget < length:
        raise RequestError(f"A budget of {budget} tokens does not lie between {_WINDOW} and the prompt's {length}.")
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    measured = []
    for layers in counts:
        model = random_model(random_weights, layers=layers, device=place)
        measured.append(measure(model, length, answer, budget, repeats))
        typer.echo(f"measured, {layers} layers: {measured[-1]}")
        # Two of them do not always fit.
        del model
    whole = extend(counts, measured, deepest)
    hours = (prompts * whole["prefill_seconds"] + steps * whole["step_seconds"]) / 3600
    typer.echo(f"extrapolated, {deepest} layers: {whole}")
    typer.echo(f"extrapolated, {prompts} prompts and {steps} steps: {hours:.1f} hours on {place}")
    o.save_figures(
        json_file,
        {
            "shape": shape,
            "device": place,
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "prompt_tokens": length,
            "answer_tokens": answer,
            "budget": budget,
            "batch": BATCH,
            "measured": [{"layers": n, **each} for n, each in zip(counts, measured, strict=True)],
            "extrapolated": {"layers": deepest, **whole},
            "step_of_prefill": whole["step_seconds"] / whole["prefill_seconds"],
            "search": {"prompts": prompts, "steps": steps, "hours_extrapolated": hours},
            "versions": versions(),
        },
    )


if __name__ == "__main__":
    run_script(main)
