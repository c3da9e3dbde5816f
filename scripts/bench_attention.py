"""Which way to attend to heads of unequal length is fastest on a CPU? One decoding step of one layer, in one run.

    python scripts/bench_attention.py --json results/bench/attention.json

- heads: one call a head over its own segment, as `cokv_bench.kvcache.RaggedCache` does it.
- padded: one call over all heads, padded to the longest, with a mask.
- grouped: one call for the heads of like length (the same power of two), padded to the longest of them.
- flat: one call in which every query reads the tokens of all heads, and a mask lets it see its own head's.

All call torch's scaled_dot_product_attention. What is timed is attention alone: padded and grouped storage would have
to be filled as well. Keys, values and queries are random, lengths are given or drawn (log-normal).
"""

import math
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cokv_bench.bench.timing import seconds
from cokv_bench.budgets import embedded_budgets
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.runs.versions import versions

Work = Callable[[], Tensor]


class Layer:
    """Queries [kv_heads, group, dim] and a segment [length, dim] of keys and of values a head."""

    def __init__(self, lengths: list[int], group: int, dim: int) -> None:
        self.lengths, self.scale = lengths, dim**-0.5
        self.keys, self.values = (torch.randn(sum(lengths), dim) for _ in range(2))
        self.query = torch.randn(len(lengths), group, dim)

    def segments(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.keys.split(self.lengths), self.values.split(self.lengths), strict=True))

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=self.scale)


def heads(layer: Layer) -> Work:
    segments = layer.segments()

    def work() -> Tensor:
        out = torch.empty_like(layer.query)
        for head, (keys, values) in enumerate(segments):
            out[head] = layer.attend(layer.query[None, None, head], keys[None, None], values[None, None])
        return out

    return work


def _pad(layer: Layer, members: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values [members, longest, dim] and the mask [members, 1, longest]."""
    chosen = [layer.segments()[head] for head in members]
    keys, values = (pad_sequence(list(each), batch_first=True) for each in zip(*chosen, strict=True))
    lengths = torch.tensor([layer.lengths[head] for head in members])
    unseen = torch.arange(keys.shape[1]) >= lengths[:, None, None]
    return keys, values, torch.zeros(unseen.shape).masked_fill_(unseen, -math.inf)


def padded(layer: Layer) -> Work:
    keys, values, mask = _pad(layer, list(range(len(layer.lengths))))
    return lambda: layer.attend(layer.query[None], keys[None], values[None], mask[None])[0]


def grouped(layer: Layer) -> Work:
    classes: dict[int, list[int]] = {}
    for head, length in enumerate(layer.lengths):
        classes.setdefault(math.ceil(math.log2(length)), []).append(head)
    groups = [(torch.tensor(members), *_pad(layer, members)) for members in classes.values()]

    def work() -> Tensor:
        out = torch.empty_like(layer.query)
        for members, keys, values, mask in groups:
            out[members] = layer.attend(layer.query[members][None], keys[None], values[None], mask[None])[0]
        return out

    return work


def flat(layer: Layer) -> Work:
    owner = torch.arange(len(layer.lengths)).repeat_interleave(torch.tensor(layer.lengths))
    group, dim = layer.query.shape[1:]
    asking = torch.arange(len(layer.lengths)).repeat_interleave(group)
    mask = torch.zeros(len(asking), len(owner)).masked_fill_(asking[:, None] != owner, -math.inf)
    query = layer.query.view(1, 1, -1, dim)
    return lambda: layer.attend(query, layer.keys[None, None], layer.values[None, None], mask).view_as(layer.query)


WAYS = {"heads": heads, "padded": padded, "grouped": grouped, "flat": flat}


def layers() -> dict[str, list[Layer]]:
    """What is measured, by name: layers whose times are added up."""
    found = {}
    for method in ("snapkv", "cokv", "cokv-search"):
        for budget in (128, 1024):
            table = np.full((30, 3), budget) if method == "snapkv" else np.asarray(embedded_budgets(method)(budget))
            found[f"smollm2-135m, {method}, {budget}"] = [Layer(np.maximum(row, 8).tolist(), 3, 64) for row in table]
    for budget in (128, 1024, 4096):
        shares = np.random.default_rng(budget).lognormal(size=(4, 8))
        counts = np.maximum(np.rint(shares / shares.mean() * budget), 8).astype(int)
        found[f"llama3-8b, drawn, {budget}"] = [Layer(row.tolist(), 4, 128) for row in counts]
    return found


def microseconds(works: list[Work], repeats: int) -> float:
    """Median over the repeats of the mean over the layers."""
    times = seconds(lambda: [work() for work in works], repeats, warm_up=3)
    return float(np.median(times)) / len(works) * 1e6


@torch.inference_mode()
def main(
    repeats: Annotated[int, typer.Option(min=1, help="Measurements, of which the median counts.")] = 30,
    json: o.JsonFile = None,
) -> None:
    """Compare the ways, print and save."""
    torch.manual_seed(0)
    rows = []
    for name, members in layers().items():
        expected = [heads(layer)() for layer in members]
        figures = {}
        for way, make in WAYS.items():
            works = [make(layer) for layer in members]
            for work, one in zip(works, expected, strict=True):
                torch.testing.assert_close(work(), one, atol=1e-4, rtol=1e-4)
            figures[way] = microseconds(works, repeats)
        rows.append({"case": name, "longest": max(max(layer.lengths) for layer in members), **figures})
    title = f"Microseconds a layer and step, {torch.get_num_threads()} threads"
    o.print_table(title, ("", *WAYS), [(row["case"], *(f"{row[way]:.0f}" for way in WAYS)) for row in rows], words=[""])
    o.save_figures(json, {"threads": torch.get_num_threads(), "microseconds": rows, "versions": versions()})


if __name__ == "__main__":
    run_script(main)
