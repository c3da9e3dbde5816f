"""Decoding rows of several prompts as one batch, in steps that a GPU replays as graphs.

While a step is bound by launches or by reading the weights, one more row costs next to nothing. So rows of all
selections of a prompt, and of other prompts beside it, take their steps together: each reads its own part of a `Pool`.
The next token is chosen on the device, and the host looks at the answers once in a few steps. Rows that have ended then
leave, and others take their places. Source of the technique: continuous batching (Orca, Yu et al., OSDI 2022).
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cokv_bench.errors import Notice, brief
from cokv_bench.kvcache.answers import Ending
from cokv_bench.kvcache.decode import Generation, check
from cokv_bench.kvcache.decoding import Decoding
from cokv_bench.kvcache.fused import Kernels, Read, fused, own_read
from cokv_bench.kvcache.graph import capture
from cokv_bench.kvcache.pool import Kernel, Layout, Placed, Pool, layout
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.ragged import decode_kernel
from cokv_bench.kvcache.selection import distinct
from cokv_bench.kvcache.tiling import (
    BLOCK_TOKENS,
    TILE_TOKENS,
    TILES_A_MULTIPROCESSOR,
    Tiling,
    Workspace,
    cut,
    multiprocessors,
)
from cokv_bench.models.finite import not_finite
from cokv_bench.models.model import Model
from cokv_bench.models.rotary import by_length

#: Steps between two looks at the answers.
EVERY = 8
#: The numbers of rows that a step is captured for; the last is the most that decode together.
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def serves(model: Model) -> bool:
    """Whether its steps can be taken together: plain attention by layers of its own, all on one GPU with Triton.

    Rotary factors that depend on the length of a text differ between rows, and are left to `decode`.
    """
    devices = {parameter.device for parameter in model.network.parameters()}
    on_one_gpu = len(devices) == 1 and model.device.type == "cuda"
    return on_one_gpu and model.verdict.lean and not by_length(model.config) and decode_kernel("cuda") is not None


@dataclass(frozen=True)
class Terms:
    """How the answers of a request begin and end.

    Attributes:
        rows: of each selection, the number of its row; selections that keep the same have one.
        first: the token that each answer begins with; None where a question comes before it.
        question: ids that every row reads first.
        new: the most tokens of an answer.
        stops: ids that end one.
        tokens: of the prompt.
    """

    rows: list[int]
    first: int | None
    question: tuple[int, ...]
    new: int
    stops: frozenset[int]
    tokens: int

    def begun(self, model: Model) -> list[Generation]:
        """The answers, where the first token ends them."""
        assert self.first is not None
        return [Generation([self.first], model.text([self.first])) for _ in self.rows]


@dataclass(frozen=True, eq=False)
class Ready:
    """A request, prepared to be admitted.

    Attributes:
        laid: what its rows keep; None where the first token ends every answer.
    """

    terms: Terms
    laid: Layout | None


@torch.inference_mode()
def prepare(model: Model, request: Decoding) -> Ready | None:
    """All of admitting a request that needs no room; None for a request that only `decode` serves.

    Raises:
        RequestError: what `decode` refuses.
    """
    prompt, question = request.prompt, tuple(request.question)
    check(model, prompt, request.selections, len(question), request.max_new_tokens)
    if not request.selections or not prompt.form(0).plain or prompt.others or (question and request.stop_at_newline):
        return None
    ending, first = Ending.of(model, request.max_new_tokens, request.stop_at_newline), None
    if not question:
        logits = prompt.logits.clone()
        logits[list(ending.banned)] = float("-inf")
        first = int(logits.argmax())
    selections, rows = distinct(request.selections)
    terms = Terms(rows, first, question, request.max_new_tokens, ending.stops, prompt.tokens)
    if first in ending.stops or (first is not None and request.max_new_tokens == 1):
        return Ready(terms, None)
    # Steps that are taken before the host sees that an answer has ended write too.
    return Ready(terms, layout(prompt, selections, len(question) + request.max_new_tokens + EVERY))


@dataclass(eq=False)
class _Answers:
    """The rows of one request: of each the ids of its answer so far, and where all of them lie."""

    terms: Terms
    placed: Placed
    ids: list[list[int]]
    open: int


@dataclass(eq=False)
class _Row:
    """A row on its way: it reads `coming` next, and after it what is left of a question."""

    answers: _Answers
    number: int
    position: int
    coming: int
    question: list[int]

    @property
    def left(self) -> int:
        """Steps until it has ended for want of room."""
        return len(self.question) + self.answers.terms.new - len(self.answers.ids[self.number])

    def hear(self, said: Sequence[int]) -> bool:
        """Go on by some steps with what was most likely after each; whether the answer has ended."""
        terms, ids = self.answers.terms, self.answers.ids[self.number]
        for token in said:
            self.position += 1
            if self.question:
                self.coming = self.question.pop(0)
                continue
            ids.append(token)
            self.coming = token
            if token in terms.stops or len(ids) == terms.new:
                return True
        return False


class Stream:
    """Rows of several requests on their way."""

    def __init__(self, model: Model, pool: Pool, *, graphs: bool, read: Read | None = None) -> None:
        """
        Args:
            graphs: whether steps are captured and replayed.
            read: takes a step; default the model's own layers.
        """
        self._model, self._pool, self._graphs, self._read = model, pool, graphs, read or own_read(model)
        self.few_kernels = read is not None
        self._rows: list[_Row] = []
        self._steps: dict[int, _Step] = {}
        self._loaded: _Step | None = None

    @property
    def busy(self) -> bool:
        return bool(self._rows)

    def could_hold(self, laid: Layout) -> bool:
        """Whether there is room for rows once all others have left."""
        return laid.lengths.shape[1] <= SIZES[-1] and max(laid.sizes) < self._pool.slots

    @torch.inference_mode()
    def admit(self, ready: Ready) -> object | None:
        """Let the rows of a request join; what it is known by from then on, None where there is no room now."""
        terms, laid = ready.terms, ready.laid
        assert laid is not None
        count = laid.lengths.shape[1]
        if len(self._rows) + count > SIZES[-1] or (placed := self._pool.place(laid)) is None:
            return None
        begun = [] if terms.first is None else [terms.first]
        answers = _Answers(terms, placed, [list(begun) for _ in range(count)], count)
        coming, *question = begun or terms.question
        self._rows += [_Row(answers, number, terms.tokens, coming, list(question)) for number in range(count)]
        self._loaded = None
        return answers

    @torch.inference_mode()
    def advance(self) -> list[tuple[object, list[Generation]]]:
        """Take some steps; the requests that have ended, with an answer for each selection.

        Raises:
            RequestError: logits that are not finite.
        """
        rows = self._rows
        count = min(EVERY, max(row.left for row in rows))
        step = self._step(next(size for size in SIZES if size >= len(rows)))
        if step is not self._loaded:
            step.load(rows)
        # What is left of a question is loaded part by part.
        self._loaded = None if any(row.question for row in rows) else step
        said = step.take(count)
        ended = []
        for row, (tokens, sound) in zip(rows, said[: len(rows)], strict=True):
            if not sound:
                raise not_finite(self._model, "logits", " while it answers")
            if row.hear(tokens):
                row.answers.open -= 1
                self._loaded = None
                ended.append(row)
        self._rows = [row for row in rows if row not in ended]
        done = [row.answers for row in ended if not row.answers.open]
        for answers in dict.fromkeys(done):
            self._pool.free(answers.placed)
        return [(answers, self._generations(answers)) for answers in dict.fromkeys(done)]

    def _generations(self, answers: _Answers) -> list[Generation]:
        found = [Generation(ids, self._model.text(ids)) for ids in answers.ids]
        return [found[number] for number in answers.terms.rows]

    def _step(self, size: int) -> "_Step":
        if size not in self._steps:
            self._steps[size] = _Step(self._model, self._pool, self._read, size, graphs=self._graphs)
        return self._steps[size]


class _Step:
    """One step of a number of rows, some of which may only fill up the batch, and all that it reads and writes."""

    def __init__(self, model: Model, pool: Pool, read: Read, size: int, *, graphs: bool) -> None:
        device, layers, kv_heads = model.device, len(pool.layers), model.kv_heads
        self._model, self._pool, self._read, self._size, self._kv_heads = model, pool, read, size, kv_heads
        self._most = multiprocessors(device) * TILES_A_MULTIPROCESSOR
        # The cut of `_load_tables` gives no more tiles than that.
        tiles = self._most + size * kv_heads

        def zeros(*shape: int, dtype: torch.dtype = torch.long) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self._ids, self._positions = zeros(size, 1), zeros(size, 1)
        self._active, self._counts = zeros(size), zeros(size) + 1
        self._tick, self._said, self._given = zeros(1), zeros(size, EVERY), zeros(size, EVERY) - 1
        self._sound = torch.ones(size, dtype=torch.bool, device=device)
        self._own_starts = zeros(layers, size, kv_heads, dtype=torch.int32)
        self._tiles = zeros(layers, tiles, 3, dtype=torch.int32)
        self._segments = zeros(layers, size * kv_heads, 2, dtype=torch.int32)
        # Of its own: what a graph writes to must stay where it is.
        workspace, count = Workspace(), torch.ones(1, dtype=torch.int32, device=device)
        self._plans = [
            Tiling(size, kv_heads, *tables, count, workspace)
            for tables in zip(self._tiles, self._segments, strict=True)
        ]
        # The rows of a new step only fill up the batch, so its first passes touch nobody's tokens.
        self._run: Callable[[], object] = self._captured() if graphs else self._forward

    def _captured(self) -> Callable[[], object]:
        """The step as a graph; launched kernel by kernel where something in it cannot be captured."""
        try:
            return capture(self._forward, self._model.device)
        except RuntimeError as error:
            warnings.warn(
                f"Decoding steps of '{self._model.name}' cannot be captured as CUDA graphs ({brief(error)}), so they "
                "are slower.",
                Notice,
                stacklevel=2,
            )
            return self._forward

    def load(self, rows: Sequence[_Row]) -> None:
        """Make these rows the batch."""
        count, size = len(rows), self._size
        filling = [0] * (size - count)
        self._ids.copy_(torch.tensor([row.coming for row in rows] + filling)[:, None])
        self._positions.copy_(torch.tensor([row.position for row in rows] + filling)[:, None])
        own = [row.position - row.answers.terms.tokens + 1 for row in rows]
        self._counts.copy_(torch.tensor(own + [1] * len(filling)))
        self._active.copy_(torch.tensor([1] * count + filling))
        self._sound.fill_(True)
        self._given.fill_(-1)
        for number, row in enumerate(rows):
            if row.question:
                part = row.question[:EVERY]
                self._given[number, : len(part)] = torch.tensor(part, device=self._given.device)
        self._load_tables(rows)

    def _load_tables(self, rows: Sequence[_Row]) -> None:
        """Where the rows' tokens lie in each layer; a row that fills up has none and writes to slot 0."""
        layers, segments = len(self._plans), self._size * self._kv_heads

        def gathered(name: str) -> Tensor:
            parts = [getattr(row.answers.placed, name)[:, row.number] for row in rows]
            filling = parts[0].new_zeros(layers, self._size - len(rows), self._kv_heads)
            return torch.cat([torch.stack(parts, dim=1), filling], dim=1)

        lengths = gathered("lengths")
        longest = int(lengths.flatten(1).sum(1).max())
        share = -(-longest // (self._most * BLOCK_TOKENS)) * BLOCK_TOKENS
        tiles, table = cut(gathered("starts").flatten(), lengths.flatten(), max(share, TILE_TOKENS[0]))
        table = table.view(layers, segments, 2)
        before = table[:, 0, 0].clone()
        layer = tiles[:, 0] // segments
        tiles[:, 0] -= layer * segments
        table[..., 0] -= before[:, None]
        padded = tiles.new_zeros(self._tiles.shape)
        padded[layer, torch.arange(len(tiles)) - before[layer]] = tiles
        self._tiles.copy_(padded)
        self._segments.copy_(table)
        self._own_starts.copy_(gathered("own_starts"))

    def take(self, count: int) -> list[tuple[list[int], bool]]:
        """Some steps, at most `EVERY`; of each row the most likely token after each, and whether logits were finite."""
        self._tick.zero_()
        for _ in range(count):
            self._run()
        # One copy from the device.
        found = torch.cat([self._said[:, :count], self._sound[:, None].long()], dim=1).tolist()
        return [(row[:-1], bool(row[-1])) for row in found]

    def _forward(self) -> None:
        for layer, plan, own_starts in zip(self._pool.layers, self._plans, self._own_starts, strict=True):
            layer.plan, layer.own_starts, layer.own_counts = plan, own_starts, self._counts
        logits = self._model.logits(self._read(self._ids, self._positions, self._pool))
        best = logits.argmax(-1, keepdim=True)
        self._sound &= logits.gather(-1, best).isfinite()[:, 0]
        self._said.index_copy_(1, self._tick, best)
        given = self._given.index_select(1, self._tick)
        self._ids.copy_(torch.where(given >= 0, given, best))
        self._positions += self._active[:, None]
        self._counts += self._active
        self._tick += 1


def open_stream(model: Model, like: Prompt, memory: int, kernel: Kernel, kernels: Kernels | None = None) -> Stream:
    """A stream whose pool takes `memory` bytes, for prompts of a model.

    Args:
        kernel: of the attention.
        kernels: of all else beside matrix products, for models that they serve; None for the model's own layers.
    """
    read = None if kernels is None else fused(model, like, kernel, kernels)
    # No more than the longest texts of all rows take, and slots are numbers of 32 bits.
    most = min(1 + SIZES[-1] * model.kv_heads * model.context, 2**31 - 1)
    slots = min(memory // (like.layers * model.bytes_per_token), most)
    return Stream(model, Pool(slots, like, kernel), graphs=model.device.type == "cuda", read=read)
