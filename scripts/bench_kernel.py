"""How fast the split-KV decode kernel reads a cache of unequal heads, beside the device's copy bandwidth and PyTorch.

    python scripts/bench_kernel.py --json results/gpu/bench_kernel.json

One layer in the shape of Llama-3-8B, bfloat16, random data, one new token a row. Budgets are tokens kept a head on
average: `equal` heads keep as many each, `unequal` ones log-normal shares of the same total. Every row has generated
a few tokens of its own besides, which are attended to but not counted in the bandwidth. PyTorch's attentions read the
same tokens: SDPA padded to the longest head under a mask, varlen_attn with a sequence a head; both are given the query
heads of a group as one head's queries, so that they too read a key once. Each time is the median of replays of a CUDA
graph, with other data read through the L2 cache before each. Errors are the largest difference from float32.
"""

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.errors import RequestError

HEADS, KV_HEADS, DIM = 32, 8, 128
GROUP = HEADS // KV_HEADS
BUDGETS = (128, 512, 1024, 4096)
BATCHES = (1, 8, 64)
OWN = 16
SCALING = DIM**-0.5

_WARM_UP, _REPEATS = 5, 40
_COPY_BYTES = 2**30
# Several times the L2 cache of any current device.
_FLUSH_BYTES = 2**28
# Most bytes of padded keys and values: beyond, padding is no way to run these heads.
_PADDED_BYTES = 16 * 2**30


@dataclass(frozen=True)
class Layer:
    """One layer's cache and a query.

    Attributes:
        lengths: int [rows, KV_HEADS], kept tokens; the segments lie one after the other from slot 0 on.
        keys, values: [slots, DIM], the rows' own tokens behind all segments.
        query: [rows, HEADS, DIM].
    """

    lengths: np.ndarray
    keys: Tensor
    values: Tensor
    query: Tensor

    @classmethod
    def random(cls, lengths: np.ndarray, device: str) -> "Layer":
        rows = len(lengths)
        shape = (int(lengths.sum()) + rows * OWN * KV_HEADS, DIM)
        kind = {"dtype": torch.bfloat16, "device": device}
        return cls(
            lengths, torch.randn(shape, **kind), torch.randn(shape, **kind), torch.randn(rows, HEADS, DIM, **kind)
        )

    @property
    def kept_bytes(self) -> int:
        return int(self.lengths.sum()) * DIM * 2 * self.keys.element_size()

    @cached_property
    def starts(self) -> np.ndarray:
        """Slot of each segment's first token, int [rows, KV_HEADS]."""
        ends = self.lengths.cumsum().reshape(self.lengths.shape)
        return ends - self.lengths

    @cached_property
    def own_starts(self) -> np.ndarray:
        """Slot of each segment's first own token, int [rows, KV_HEADS]."""
        return self.lengths.sum() + np.arange(self.lengths.size).reshape(self.lengths.shape) * OWN

    @cached_property
    def slots(self) -> list[np.ndarray]:
        """The slots of every segment's tokens, its own ones last."""
        return [
            np.concatenate([start + np.arange(length), own + np.arange(OWN)])
            for start, length, own in zip(self.starts.flat, self.lengths.flat, self.own_starts.flat, strict=True)
        ]

    def expected(self) -> Tensor:
        """The result in float32, one segment after the other."""
        grouped = self.query.float().view(-1, GROUP, DIM)
        result = torch.empty_like(grouped)
        for number, slots in enumerate(self.slots):
            places = torch.from_numpy(slots).to(self.keys.device)
            scores = grouped[number] @ self.keys[places].float().T * SCALING
            result[number] = torch.softmax(scores, dim=-1) @ self.values[places].float()
        return result.view_as(self.query)


def split_kv(layer: Layer) -> Callable[[], Tensor]:
    """The kernel of this project."""
    from cokv_bench.kvcache.tiling import Tiling
    from cokv_bench.kvcache.triton_decode import decode_attention

    def placed(numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers).int().to(layer.keys.device)

    plan = Tiling.of(placed(layer.starts), placed(layer.lengths))
    own_starts, own_count = placed(layer.own_starts), placed(np.array([OWN]))
    return lambda: decode_attention(layer.query, layer.keys, layer.values, plan, own_starts, own_count, SCALING)


def padded_sdpa(layer: Layer) -> Callable[[], Tensor]:
    """torch's scaled_dot_product_attention over heads padded to the longest."""
    # A mask whose rows start at whole vectors is used where it lies.
    longest = -(-max(map(len, layer.slots)) // 64) * 64
    size = len(layer.slots) * longest * DIM * 2 * layer.keys.element_size()
    if size > _PADDED_BYTES:
        raise ValueError(f"padded keys and values would take {size / 2**30:.0f} GiB")
    places = np.zeros((len(layer.slots), longest), dtype=np.int64)
    mask = np.zeros(places.shape, dtype=bool)
    for number, slots in enumerate(layer.slots):
        places[number, : len(slots)], mask[number, : len(slots)] = slots, True
    shape = (-1, KV_HEADS, longest, DIM)
    where = torch.from_numpy(places).to(layer.keys.device)
    keys, values = layer.keys[where].view(shape), layer.values[where].view(shape)
    seen = torch.from_numpy(mask).to(layer.keys.device).view(-1, KV_HEADS, 1, longest).expand(-1, -1, GROUP, -1)
    query = layer.query.view(-1, KV_HEADS, GROUP, DIM)

    def attend() -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=seen, scale=SCALING)

    return attend


def varlen(layer: Layer) -> Callable[[], Tensor]:
    """torch's varlen_attn, a sequence a segment."""
    from torch.nn.attention.varlen import varlen_attn

    device = layer.keys.device
    places = torch.from_numpy(np.concatenate(layer.slots)).to(device)
    keys, values = layer.keys[places, None], layer.values[places, None]
    query = layer.query.view(-1, 1, DIM)
    sizes = [len(slots) for slots in layer.slots]
    queries_until = torch.arange(0, len(query) + 1, GROUP, dtype=torch.int32, device=device)
    keys_until = torch.tensor([0, *np.cumsum(sizes)], dtype=torch.int32, device=device)
    # Its factor of the scores is one over the root of the channels, as here.
    return lambda: varlen_attn(query, keys, values, queries_until, keys_until, GROUP, max(sizes))


METHODS = {"split_kv": split_kv, "sdpa": padded_sdpa, "varlen": varlen}


def draw_lengths(kind: str, rows: int, budget: int) -> np.ndarray:
    """Kept tokens, int [rows, KV_HEADS], `budget` on average."""
    if kind == "equal":
        return np.full((rows, KV_HEADS), budget)
    shares = np.random.default_rng(budget).lognormal(size=rows * KV_HEADS).cumsum()
    edges = np.rint(shares / shares[-1] * shares.size * budget).astype(int)
    return np.diff(edges, prepend=0).reshape(rows, KV_HEADS)


def seconds(work: Callable[[], Any], flush: Tensor) -> float:
    """Median of the replays of a graph of `work`."""
    for _ in range(_WARM_UP):
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    events = []
    for _ in range(_WARM_UP + _REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        # Reading leaves nothing in the cache that must be written back while the graph runs. It also takes the device
        # long enough that the graph is there when its turn comes.
        flush.sum()
        start.record()
        graph.replay()
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    return median(start.elapsed_time(end) for start, end in events[_WARM_UP:]) / 1e3


def copy_bandwidth(flush: Tensor) -> float:
    """Bytes a second, read and written, of a large copy on the device."""
    source = torch.zeros(_COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * _COPY_BYTES / seconds(lambda: target.copy_(source), flush)


def measure(layer: Layer, name: str, expected: Tensor, flush: Tensor) -> dict[str, Any]:
    """Microseconds, bandwidth of the kept tokens and error of a method, or why it has none."""
    try:
        work = METHODS[name](layer)
        error = (work().view_as(expected).float() - expected).abs().max().item()
        taken = seconds(work, flush)
    except (ImportError, RuntimeError, TypeError, ValueError) as refusal:
        reason, _, _ = str(refusal).partition("\n")
        return {"refused": f"{type(refusal).__name__}: {reason}"}
    return {"microseconds": taken * 1e6, "bytes_per_second": layer.kept_bytes / taken, "error": error}


def main(json: o.JsonFile = None) -> None:
    """Time the split-KV decode kernel on a GPU."""
    if not torch.cuda.is_available() or find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") == "1":
        raise RequestError("This benchmark needs a CUDA device, and Triton that compiles for it.")
    torch.manual_seed(0)
    flush = torch.zeros(_FLUSH_BYTES // 4, device="cuda")
    copied = copy_bandwidth(flush)
    name = torch.cuda.get_device_name()
    rows, told, reasons = [], [], set()
    for kind in ("equal", "unequal"):
        for budget in BUDGETS:
            for batch in BATCHES:
                lengths = draw_lengths(kind, batch, budget)
                layer = Layer.random(lengths, "cuda")
                expected = layer.expected()
                found = {method: measure(layer, method, expected, flush) for method in METHODS}
                reasons |= {f"{method}: {each['refused']}" for method, each in found.items() if "refused" in each}
                ours = found["split_kv"]
                if "refused" not in ours:
                    ours["share_of_copy"] = ours["bytes_per_second"] / copied
                rows.append({"heads": kind, "rows": batch, "budget": budget, "longest": int(lengths.max()), **found})
                told.append((kind, str(batch), str(budget), *_cells(found)))
    header = ("heads", "rows", "budget", "µs", "GB/s", "copy", "error", "SDPA", "varlen")
    o.print_table(f"{name}: copy {copied / 1e9:.0f} GB/s", header, told)
    o.tell("GB/s: of the kept keys and values alone. copy: its share of the copy's. SDPA, varlen: their µs.")
    for reason in sorted(reasons):
        o.tell(f"- {reason}")
    properties = torch.cuda.get_device_properties(0)
    figures = {
        "command": shlex.join(["python", *sys.argv]),
        "device": name,
        "multiprocessors": properties.multi_processor_count,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": version("triton"),
        "shape": {"heads": HEADS, "kv_heads": KV_HEADS, "dim": DIM, "dtype": "bfloat16", "own_tokens": OWN},
        "copy_bytes_per_second": copied,
        "measured": rows,
    }
    o.save_figures(json, figures)


def _cells(found: dict[str, dict[str, Any]]) -> list[str]:
    ours = found["split_kv"]
    others = [f"{found[m]['microseconds']:.0f}" if "microseconds" in found[m] else "-" for m in ("sdpa", "varlen")]
    if "refused" in ours:
        return ["-"] * 4 + others
    bandwidth = f"{ours['bytes_per_second'] / 1e9:.0f}"
    return [f"{ours['microseconds']:.1f}", bandwidth, f"{ours['share_of_copy']:.0%}", f"{ours['error']:.1e}", *others]


if __name__ == "__main__":
    run_script(main)
