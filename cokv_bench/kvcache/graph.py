"""Decoding steps as one CUDA graph: a step's thousand small kernels are launched at once.

Launched one by one from Python, they keep the processor busy for longer than they keep the GPU busy, and what a
compact cache saves is not seen. Source of the technique: CUDA graphs in PyTorch (`torch.cuda.CUDAGraph`).
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from cokv_bench.kvcache.ragged import RaggedCache
from cokv_bench.models.model import Model
from cokv_bench.models.support import rope_of

Replay = Callable[[], None]

# Passes before a capture, in which kernels are compiled and libraries make their workspaces.
_WARM_UPS = 2


class GraphStep:
    """One new token for each row of a ragged cache; the graph is captured anew where the cache has moved."""

    def __init__(self, model: Model, cache: RaggedCache, rows: int, length: int) -> None:
        """`length`: of a text with the rotary factors of every step."""
        self._model, self._cache, self._length = model, cache, length
        self._ids = torch.zeros(rows, 1, dtype=torch.long, device=model.device)
        self._positions = torch.zeros(rows, 1, dtype=torch.long, device=model.device)
        self._replay: Replay | None = None
        self._laid: list[int] = []
        self._weights: list[Tensor] = []
        self._states = torch.empty(0)

    @staticmethod
    def serves(model: Model, cache: RaggedCache) -> bool:
        """Whether steps can be captured: all of the model on one GPU, and attention without a loop over heads.

        A rotary embedding that looks at the length on the host (`dynamic`) cannot be captured, nor what a decoder that
        is called as a whole does beside its layers.
        """
        devices = {parameter.device for parameter in model.network.parameters()}
        rope = rope_of(model.config).get("rope_type")
        on_one_gpu = len(devices) == 1 and model.device.type == "cuda"
        return on_one_gpu and rope != "dynamic" and model.verdict.lean and cache.has_kernel

    def __call__(self, token_ids: Tensor, position: int) -> Tensor:
        """Hidden states [rows, width] after tokens [rows, 1] at `position`; valid until the next call."""
        self._ids.copy_(token_ids)
        self._positions.fill_(position)
        self._cache.make_room(1)
        laid = [layer.laid for layer in self._cache.evicted]
        if self._replay is None or laid != self._laid:
            self._capture()
            self._laid = laid
        assert self._replay is not None
        self._replay()
        self._cache.advance(1)
        return self._states

    def _forward(self) -> Tensor:
        return self._model.read(self._ids, self._positions, self._cache, [self._length])[:, -1]

    def _capture(self) -> None:
        def work() -> None:
            self._states = self._forward()

        # The graph reads them where they are now, though `fused` may move the network's own.
        self._weights = [weights.data for weights in self._model.network.parameters()]
        # The same token is written to the same place each time.
        self._replay = capture(work, self._model.device, lambda: self._cache.crop(-1))


def capture(work: Callable[[], object], device: torch.device, undo: Callable[[], object] = lambda: None) -> Replay:
    """Record what work launches on a GPU; it runs a few times for that.

    Args:
        undo: called after each of these.

    Returns:
        What launches all of it again, to read and write where it did.
    """
    # The model's GPU need not be the current one, and a capture sees one GPU only.
    with torch.cuda.device(device):
        before = torch.cuda.current_stream()
        stream = _stream(before.device)
        stream.wait_stream(before)
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                work()
                undo()
        before.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            # Another thread may prefill meanwhile.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                work()
        finally:
            # A capture that ends with an error leaves its stream the current one.
            torch.cuda.set_stream(before)
        undo()
    return graph.replay


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of all captures on a GPU.

    Streams are dealt out in turn, and soon one would be a second thread's; those of a high priority are dealt apart.
    """
    return torch.cuda.Stream(device, priority=-1)
