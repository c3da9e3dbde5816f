"""Calls whose answers decode together on one GPU, while the next prompt is read beside them.

A call that is work (`cokv_bench.kvcache.decoding`) asks for answers on its way. Its prompt is read by a second thread,
on a stream of its own; its rows then join those of other calls, and it goes on once all of them have ended. What each
call gives is what it gives alone, up to how 16 bits round; only their order differs.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic

import torch

from cokv_bench.engines.base import Call, Context
from cokv_bench.engines.working import Working
from cokv_bench.kvcache import Generation
from cokv_bench.kvcache.batching import free_memory
from cokv_bench.kvcache.decoding import Decoding, Work
from cokv_bench.kvcache.fused import Kernels
from cokv_bench.kvcache.pool import Kernel
from cokv_bench.kvcache.stream import Ready, Stream, open_stream, prepare, serves
from cokv_bench.models import Model

# Calls whose prompts are there before their rows find room.
_AHEAD = 2
# Of the memory that is free when the first prompt is there, what rows keep and generate gets; the rest is for prompts.
_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class _Done:
    """A call that has finished."""

    call: Call[Any]
    found: Any


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A call whose rows wait for room."""

    call: Call[Any]
    work: Work[Any]
    ready: Ready


class StreamingEngine(Generic[Context]):
    """Runs calls on one GPU, as many at a time as there is room for."""

    def __init__(self, model: Model, context: Context, memory: int | None = None, kernel: Kernel | None = None) -> None:
        """
        Args:
            memory: bytes for what rows keep and generate; default half of what is free when the first prompt is there.
            kernel: of the attention; default the Triton kernel, where it serves the model.
        """
        self._model, self._context, self._memory, self._kernel = model, context, memory, kernel
        self._stream: Stream | None = None
        self._side = torch.cuda.Stream(model.device) if model.device.type == "cuda" else None

    @property
    def few_kernels(self) -> bool:
        """Whether the steps so far were those of `fused`."""
        return self._stream is not None and self._stream.few_kernels

    def results(self, calls: Iterable[Call[Context]]) -> Iterator[tuple[Call[Context], Any]]:
        """See `Engine.results`."""
        with ThreadPoolExecutor(1) as second:
            try:
                yield from self._results(iter(calls), second)
            except BaseException:
                # An error, Ctrl-C, or nobody who wants the rest: what waits is not begun, and rows that are on their
                # way must not meet those of the next calls.
                second.shutdown(cancel_futures=True)
                self._stream = None
                raise

    def _results(
        self, source: Iterator[Call[Context]], second: ThreadPoolExecutor
    ) -> Iterator[tuple[Call[Context], Any]]:
        more = True
        # Each draws a call and reads its prompt, or lets one go on whose answers are there.
        coming: deque[Future[_Done | _Waiting | None]] = deque()
        waiting: deque[_Waiting] = deque()
        decoding: dict[object, tuple[Call[Context], Work[Any]]] = {}
        while more or coming or waiting or decoding:
            while more and len(coming) + len(waiting) < _AHEAD:
                coming.append(second.submit(self._begin, source))
            if coming and (coming[0].done() or not (waiting or decoding)):
                found = coming.popleft().result()
                if found is None:
                    more = False
                elif isinstance(found, _Done):
                    yield found.call, found.found
                else:
                    waiting.append(found)
                # No name here holds a prompt while others decode.
                del found
            elif waiting and (name := self._admit(waiting[0].ready)) is not None:
                one = waiting.popleft()
                decoding[name] = one.call, one.work
                del one
            elif decoding:
                assert self._stream is not None
                for name, answers in self._stream.advance():
                    coming.append(second.submit(self._go_on, *decoding.pop(name), answers))

    def _begin(self, source: Iterator[Call[Context]]) -> _Done | _Waiting | None:
        """The next call, until its rows wait for room or it has finished; None where there is none."""
        call = next(source, None)
        if call is None:
            return None
        if isinstance(call.run, Working):
            return self._go_on(call, call.run.work(self._context), None)
        with self._beside():
            return _Done(call, call.run(self._context))

    def _go_on(self, call: Call[Any], work: Work[Any], answers: list[Generation] | None) -> _Done | _Waiting:
        """Let work go on with what it has asked for."""
        with self._beside():
            try:
                while True:
                    # None begins it.
                    request = work.send(answers)  # type: ignore[arg-type]
                    ready = self._prepared(request)
                    if ready is not None and ready.laid is not None:
                        return _Waiting(call, work, ready)
                    answers = request.alone(self._model) if ready is None else ready.terms.begun(self._model)
            except StopIteration as end:
                return _Done(call, end.value)

    def _prepared(self, request: Decoding) -> Ready | None:
        """A request to be admitted; None for one that is decoded alone, as one with a limit of its own is."""
        if request.memory is not None or not (self._kernel or serves(self._model)):
            return None
        ready = prepare(self._model, request)
        if ready is None or ready.laid is None:
            return ready
        if self._stream is None:
            memory = self._memory or int(_SHARE * free_memory(self._model.device))
            self._stream = open_stream(self._model, request.prompt, memory, *self._kernels())
        return ready if self._stream.could_hold(ready.laid) else None

    def _kernels(self) -> tuple[Kernel, Kernels | None]:
        """Of attention and of all else in a step."""
        if self._kernel is not None:
            return self._kernel, None
        from cokv_bench.kvcache import triton_decode, triton_step  # Here, because they need Triton.

        return triton_decode.decode_attention, triton_step

    def _admit(self, ready: Ready) -> object | None:
        assert self._stream is not None
        name = self._stream.admit(ready)
        if self._side is not None:
            # What was copied may be freed, and written to by the other stream, from here on.
            torch.cuda.current_stream(self._model.device).synchronize()
        return name

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """Launch on the second stream; all that was launched is done at the end."""
        if self._side is None:
            yield
            return
        with torch.cuda.stream(self._side):
            yield
        self._side.synchronize()
