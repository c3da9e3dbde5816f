"""What one coalition costs on a model in the shape of Llama-3-8B: published way against ours, in one run.

    python scripts/bench_coalition.py --length 8192 --json results/gpu/bench_coalition.json

(a) repeats prefill and generation for every coalition, as CoKV's code does (arXiv 2502.17501). (b) generates for a
batch of coalitions from one shared prompt cache, as a profile does here. (c) scores a given answer under a batch of
them. Weights, prompt and answer are random: time depends on shapes alone. `scripts/bench_profile.py` measures the same
on a model that answers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import typer

from cokv_bench.bench.shapes import random_model
from cokv_bench.bench.timing import seconds
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.engines import Call, LocalWorkers
from cokv_bench.kvcache import Generation, Prompt, Selection, decode, prefill
from cokv_bench.kvcache.decoding import Decoding, Work, finish
from cokv_bench.models import Model
from cokv_bench.runs.versions import versions

_WINDOW = 8


@dataclass(frozen=True, eq=False)
class Batch:
    """A call like that of a game whose utility scores answers."""

    prompt: Prompt
    selections: Sequence[Selection]
    new: int

    def __call__(self, model: Model) -> list[Generation]:
        return finish(model, self.work(model))

    def work(self, model: Model) -> Work[list[Generation]]:
        answers = yield Decoding(self.prompt, self.selections, self.new)
        return answers


def main(
    random_weights: Annotated[str, typer.Option(help="Shape of the model.")] = "llama3-8b",
    layers: Annotated[int | None, typer.Option(help="Fewer layers than the shape has.")] = None,
    length: Annotated[int, typer.Option(help="Prompt tokens.")] = 8192,
    answer: Annotated[int, typer.Option(help="Tokens of an answer.")] = 32,
    coalitions: Annotated[int, typer.Option(help="Coalitions of a batch.")] = 64,
    repeats: Annotated[int, typer.Option(help="Measurements, of which the median counts.")] = 3,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. Default: a GPU if any.")] = None,
    json_file: o.JsonFile = None,
) -> None:
    """Measure, print and save."""
    model = random_model(random_weights, layers=layers, device=device)
    # Not even a stop token ends an answer early, so every way generates as much.
    model.network.generation_config.eos_token_id = None
    chance = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (length + answer,), generator=chance)
    prompt_ids, teacher = ids[:length], ids[length:]
    members = torch.rand(coalitions, model.layers, model.kv_heads, generator=chance) < torch.linspace(
        0.05, 0.95, coalitions
    ).view(-1, 1, 1)
    selections = [Selection.from_coalition(inside, length, _WINDOW) for inside in members]

    def published() -> None:
        prompt = prefill(model, prompt_ids, window=_WINDOW, accumulated_attention=False)
        decode(model, prompt, selections[coalitions // 2 :][:1], max_new_tokens=answer)

    prompt = prefill(model, prompt_ids, window=_WINDOW, accumulated_attention=False)
    engine = LocalWorkers(model).open(lambda held: held)
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "a": (published, 1),
        "b": (lambda: list(engine.results([Call(0, Batch(prompt, selections, answer))])), coalitions),
        "c": (lambda: decode(model, prompt, selections, teacher=teacher), coalitions),
    }
    times = {name: [t / count for t in seconds(work, repeats, warm_up=1)] for name, (work, count) in ways.items()}
    medians = {name: float(np.median(values)) for name, values in times.items()}
    place = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "cpu"
    typer.echo(f"{model.name} on {place}, {length} tokens, answers of {answer}, batches of {coalitions} coalitions")
    for name, label in (("a", "prefill and generate anew"), ("b", "shared prompt"), ("c", "teacher forced")):
        typer.echo(
            f"({name}) {label}: {1000 * medians[name]:.2f} ms a coalition, (a) / {medians['a'] / medians[name]:.0f}"
        )
    o.save_figures(
        json_file,
        {
            "model": model.name,
            "device": place,
            "dtype": str(model.network.dtype).removeprefix("torch."),
            "prompt_tokens": length,
            "answer_tokens": answer,
            "coalitions": coalitions,
            "seconds": times,
            "ratios": {name: medians["a"] / medians[name] for name in ("b", "c")},
            "versions": versions(),
        },
    )


if __name__ == "__main__":
    run_script(main)
