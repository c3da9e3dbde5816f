"""What is asked of a decoder, apart from who decodes it."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cokv_bench.kvcache.decode import Generation, decode
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.selection import Selection
from cokv_bench.models.model import Model


@dataclass(frozen=True, eq=False)
class Decoding:
    """Greedy answers of a prompt under some selections; the arguments of `decode`."""

    prompt: Prompt
    selections: Sequence[Selection]
    max_new_tokens: int
    question: Sequence[int] = ()
    stop_at_newline: bool = False
    memory: int | None = None

    def alone(self, model: Model) -> list[Generation]:
        """The answers, decoded now and beside no other prompt's."""
        return decode(
            model,
            self.prompt,
            self.selections,
            max_new_tokens=self.max_new_tokens,
            question=self.question,
            stop_at_newline=self.stop_at_newline,
            memory=self.memory,
        )


T = TypeVar("T")
#: Work that asks for answers on its way, and is given them.
Work = Generator[Decoding, list[Generation], T]


def finish(model: Model, work: Work[T]) -> T:
    """What work gives in the end, each of its requests decoded alone."""
    try:
        request = next(work)
        while True:
            request = work.send(request.alone(model))
    except StopIteration as end:
        found: T = end.value
        return found
