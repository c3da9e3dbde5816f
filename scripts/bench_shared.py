"""Rows that read one prompt, each with an answer of its own to score: two ways of attention on a CPU, in one run.

    python scripts/bench_shared.py --json results/bench/shared.json

- flash: PyTorch's flash kernel, which never writes scores down (`cokv_bench.kvcache.flash`), as runs have it.
- written: scores are written down, piece by piece, as where a selection has holes and needs a mask.

Random coalitions of the heads over a prompt of the embedded essays, whose next tokens are given: the game's utility
`loglik`. Both ways take turns; a ratio is of their medians. Their utilities are compared, in nats per token.
"""

from collections.abc import Callable
from statistics import median
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer
from torch import Tensor

from cokv_bench.bench.timing import seconds
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.kvcache import Generation, Prompt, Selection, decode, flash, prefill
from cokv_bench.models import Model, load_model
from cokv_bench.option import integers
from cokv_bench.runs.versions import versions
from cokv_bench.tasks.made.haystack import read_documents

DTYPES = ("float32", "bfloat16")


def main(
    model: Annotated[str, typer.Option(help="Embedded name, or a folder.")] = "smollm2-135m",
    length: Annotated[int, typer.Option(min=32, help="Tokens of the prompt.")] = 2000,
    answers: Annotated[str, typer.Option(help="Tokens of the answers, comma separated.")] = "8,64,512",
    coalitions: Annotated[int, typer.Option(min=1, help="Rows.")] = 16,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each way, of which the median counts.")] = 3,
    json: o.JsonFile = None,
) -> None:
    """Compare the two ways, print and save."""
    rows = []
    for dtype in DTYPES:
        loaded = load_model(model, dtype=dtype, device="cpu")
        counts = integers(answers, "number of answer tokens")
        ids = _essays(loaded, length + max(counts))
        prompt = prefill(loaded, ids[:length])
        for new in counts:
            answer = torch.tensor(ids[length : length + new])
            rows.append({"dtype": dtype, "answer": new, **_compare(loaded, prompt, answer, coalitions, repeats)})
    title = f"Seconds for {coalitions} coalitions, {torch.get_num_threads()} threads"
    told = [(f"{row['dtype']}, {row['answer']} tokens", *(f"{row[name]:.2f}" for name in _NAMES)) for row in rows]
    o.print_table(title, ("", *_NAMES), told, words=[""])
    figures = {"prompt": length, "coalitions": coalitions, "threads": torch.get_num_threads(), "cases": rows}
    o.save_figures(json, {**figures, "versions": versions()})


_NAMES = ("flash", "written", "ratio")


def _essays(model: Model, count: int) -> list[int]:
    """The first ids of the embedded essays, from the first one on again where they end."""
    text = " ".join(document.text for document in read_documents())
    found = model.text_tokenizer.encode(text)
    return (found * (1 + count // len(found)))[:count]


def _compare(model: Model, prompt: Prompt, answer: Tensor, coalitions: int, repeats: int) -> dict[str, Any]:
    chance = torch.Generator().manual_seed(0)
    members = torch.rand(coalitions, prompt.layers, prompt.kv_heads, generator=chance) < 0.5
    choices = [Selection.from_coalition(inside, prompt.tokens, prompt.window) for inside in members]
    made: dict[str, list[Generation]] = {}

    def work(name: str) -> None:
        made[name] = decode(model, prompt, choices, teacher=answer)

    def written() -> None:
        with patch.object(flash, "serves", return_value=False):
            work("written")

    ways: dict[str, Callable[[], None]] = {"flash": lambda: work("flash"), "written": written}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            times[name] += seconds(way, 1)
    found = {name: median(each) for name, each in times.items()}
    flashed, put = (torch.stack([row.logprobs for row in made[name]]).mean(dim=1) for name in ways)
    return {**found, "ratio": found["written"] / found["flash"], "differ": float((flashed - put).abs().max())}


if __name__ == "__main__":
    run_script(main)
