"""Benchmarks whose examples are made at any length."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cokv_bench.checks import Check, whole
from cokv_bench.tasks.base import Split
from cokv_bench.tasks.family import Family, Size
from cokv_bench.tasks.made.task import DEFAULT_EXAMPLES, SPLITS
from cokv_bench.tasks.options import TaskOptions

if TYPE_CHECKING:
    from cokv_bench.models import Model


class MadeFamily(Family):
    """A benchmark whose tasks make as many examples of each length as they are asked for."""

    @abstractmethod
    def new_tokens(self, task: str) -> int:
        """The most tokens of an answer."""

    def default_examples(self, options: TaskOptions) -> int:
        """Examples per length and split where the options name no number."""
        return DEFAULT_EXAMPLES

    def size(self, task: str, options: TaskOptions, split: Split, rows: int | None) -> Size:
        """As many examples of each length and split as the options say; never `UncountedError`."""
        asked = options.examples_a_length
        of_split = self.default_examples(options) if asked is None else asked
        return Size(of_split * (len(SPLITS) if split == "all" else 1), self.new_tokens(task), options.lengths)

    def length(self, task: str) -> str | None:
        """The length that was asked for, in tokens."""
        return "length"

    def columns(self, task: str) -> Mapping[str, Check]:
        """The length."""
        return {"length": whole(1)}


def prompt_length(model: "Model", *, chat: bool = True) -> Callable[[str], int]:
    """Counts the tokens of a prompt, by default with the model's chat template."""
    from cokv_bench.models import encode  # On first use: importing torch takes seconds.

    return lambda text: len(encode(model, text, chat=chat))
