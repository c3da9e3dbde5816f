"""How examples become token ids, as it is asked for."""

from dataclasses import dataclass
from typing import Annotated

from cokv_bench.option import Option

_PANEL = "Tasks"


@dataclass(frozen=True)
class Encoding:
    """How examples become token ids.

    Attributes:
        max_length: cut of long prompts, for tasks that cut; the most tokens before the chat template. Default what
            the model's context leaves.
        question_agnostic: whether the question is kept apart, to be appended after the context is compressed.
    """

    max_length: Annotated[
        int | None,
        Option(
            "Cut longer LongBench prompts in the middle to this many tokens. Default: the model's context length.",
            _PANEL,
            least=16,
        ),
    ] = None
    question_agnostic: Annotated[
        bool,
        Option(
            "Compress the context before the question is known (harder). Default: the question is part of the prompt.",
            _PANEL,
        ),
    ] = False
