"""Calls whose answers decode together on a CPU: prompts are read one by one, and their rows share each step."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Generic

from cokv_bench.engines.base import Call, Context
from cokv_bench.engines.local import one_ahead
from cokv_bench.engines.working import Working
from cokv_bench.kvcache import Generation
from cokv_bench.kvcache.decoding import Decoding, Work
from cokv_bench.kvcache.joint import Joint
from cokv_bench.models import Model


class JointEngine(Generic[Context]):
    """Runs calls in this process.

    What each gives is what it gives alone, up to rounding; only the order differs.
    """

    def __init__(self, model: Model, context: Context, memory: int | None = None) -> None:
        """`memory`: bytes that prompts on their way may take; default a quarter of what is free when one joins."""
        self._model, self._context, self._memory = model, context, memory

    def results(self, calls: Iterable[Call[Context]]) -> Iterator[tuple[Call[Context], Any]]:
        """See `Engine.results`. Where a call fails, those on their way are finished before its error arrives."""
        joint = Joint(self._model, self._memory)
        source = one_ahead(calls)
        decoding: dict[object, tuple[Call[Context], Work[Any]]] = {}
        # Work that goes on with these answers; None begins it.
        able: deque[tuple[Call[Context], Work[Any], list[Generation] | None]] = deque()
        waiting: tuple[Call[Context], Work[Any], Decoding] | None = None
        more, failure = True, None
        while more or able or waiting or decoding:
            try:
                if waiting:
                    call, work, request = waiting
                    name = joint.admit(request)
                    # No name here holds a prompt while others decode.
                    del request
                    if name is not None:
                        decoding[name], waiting = (call, work), None
                        continue
                elif able:
                    call, work, answers = able.popleft()
                    asked = yield from self._asked(call, work, answers)
                    waiting = None if asked is None else (call, work, asked)
                    del asked
                    continue
                elif more and joint.has_room:
                    following = next(source, None)
                    more = following is not None
                    if following:
                        able.append((following, _begun(following.run, self._context), None))
                    continue
            except Exception as error:
                more, waiting, failure = False, None, failure or error
                continue
            able.extend((*decoding.pop(ended), found) for ended, found in joint.advance())
        if failure:
            raise failure

    def _asked(
        self, call: Call[Context], work: Work[Any], answers: list[Generation] | None
    ) -> Generator[tuple[Call[Context], Any], None, Decoding | None]:
        """What work asks for next; where it has finished, its result is handed out."""
        while True:
            try:
                request = work.send(answers)  # type: ignore[arg-type]
            except StopIteration as end:
                yield call, end.value
                return None
            if Joint.serves(self._model, request):
                return request
            answers = request.alone(self._model)


def _begun(run: Callable[[Any], Any], context: Any) -> Work[Any]:
    """What a call does, as work."""
    return run.work(context) if isinstance(run, Working) else _alone(run, context)


def _alone(run: Callable[[Any], Any], context: Any) -> Work[Any]:
    """A call as work that asks for nothing."""
    return run(context)
    yield
