"""What a step of a search costs on a model in the shape of Llama-3-8B, with random weights, beside its prefill.

python scripts/bench_search.py --json results/search/bench_search.json

Two depths of that shape are measured and a line through them is extended to all 32 layers: what is measured and what
is extrapolated is told apart in the output. A step reads ten answers over their prompts, forward and back; a scoring
of as many answers is the forward pass alone. Prompts are random ids.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from transformers import AutoModelForCausalLM, LlamaConfig

from cokv_bench.cli import options as o
from cokv_bench.files import write_json
from cokv_bench.kvcache import prefill
from cokv_bench.kvcache.ranked import RankedRow, answer_logprobs, by_rank
from cokv_bench.models import Model
from cokv_bench.models.attention import IMPLEMENTATION
from cokv_bench.policies import get_policy
from cokv_bench.runs.versions import versions
from cokv_bench.search.search import BATCH
from cokv_bench.search.shares import split

LAYERS = 32
SHAPE = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
}
_WINDOW = 8


def random_model(shape: dict[str, Any], layers: int, device: str) -> Model:
    """A Llama of a shape with random weights, without a tokenizer."""
    config = LlamaConfig(num_hidden_layers=layers, **shape)
    config._attn_implementation = IMPLEMENTATION
    kind = torch.float32 if device == "cpu" else torch.bfloat16
    with torch.device(device):
        network = AutoModelForCausalLM.from_config(config, dtype=kind)
    return Model(f"random-{layers}-layers", network.eval().requires_grad_(False), None)


def measure(model: Model, length: int, answer: int, budget: int, repeats: int) -> dict[str, float]:
    """Median seconds of a prefill, of a step and of a scoring, and the bytes of one prompt's cache."""
    ids = torch.randint(0, model.config.vocab_size, (length,), generator=torch.Generator().manual_seed(0)).tolist()
    prompts = []
    seconds = {
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

    seconds["step_seconds"] = _median(lambda: answer_logprobs(model, rows(True)).sum().backward(), repeats)
    seconds["scoring_seconds"] = _median(score, repeats)
    return {**seconds, "prompt_bytes": float(prompt.nbytes)}


def _median(work: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def extend(depths: list[int], measured: list[dict[str, float]]) -> dict[str, float]:
    """What the lines through the measured depths say of 32 layers."""
    return {
        name: float(np.polyval(np.polyfit(depths, [each[name] for each in measured], 1), LAYERS))
        for name in measured[0]
    }


def main(
    depths: Annotated[str, typer.Option(help="Numbers of layers to measure, at least two.")] = "1,2",
    length: Annotated[int, typer.Option(help="Prompt tokens.")] = 2048,
    answer: Annotated[int, typer.Option(help="Tokens of an answer.")] = 24,
    budget: Annotated[int, typer.Option(help="Tokens a KV head.")] = 128,
    repeats: Annotated[int, typer.Option(help="Measurements, of which the median counts.")] = 3,
    prompts: Annotated[int, typer.Option(help="Of the search whose cost is told.")] = 200,
    steps: Annotated[int, typer.Option(help="Of the search whose cost is told.")] = 100,
    width: Annotated[int | None, typer.Option(help="Smaller hidden size, to try the script.")] = None,
    device: o.Device = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    """Measure each depth, print and save."""
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    shape = SHAPE if width is None else {**SHAPE, "hidden_size": width, "intermediate_size": 2 * width}
    counts, measured = o.integers(depths, "depth"), []
    for layers in counts:
        measured.append(measure(random_model(shape, layers, place), length, answer, budget, repeats))
        typer.echo(f"measured, {layers} layers: {measured[-1]}")
    whole = extend(counts, measured)
    hours = (prompts * whole["prefill_seconds"] + steps * whole["step_seconds"]) / 3600
    typer.echo(f"extrapolated, {LAYERS} layers: {whole}")
    typer.echo(f"extrapolated, {prompts} prompts and {steps} steps: {hours:.1f} hours on {place}")
    if json_file is not None:
        write_json(
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
                "extrapolated": {"layers": LAYERS, **whole},
                "step_of_prefill": whole["step_seconds"] / whole["prefill_seconds"],
                "search": {"prompts": prompts, "steps": steps, "hours_extrapolated": hours},
                "versions": versions(),
            },
        )


if __name__ == "__main__":
    typer.run(main)
