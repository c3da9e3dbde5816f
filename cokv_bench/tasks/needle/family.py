"""Needle in a Haystack as a benchmark."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cokv_bench.checks import Check, number
from cokv_bench.tasks.made.family import MadeFamily, prompt_length
from cokv_bench.tasks.needle.task import MAX_NEW_TOKENS, NeedleTask
from cokv_bench.tasks.options import TaskOptions

if TYPE_CHECKING:
    import pandas as pd

    from cokv_bench.models import Model


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("needle", "a fact hidden in a text, then asked for", "NEEDLE")


class Needle(MadeFamily):
    """One task, "needle"."""

    name = NeedleTask.name
    examples = "needles"

    def lines(self) -> Mapping[str, str]:
        """The task."""
        return {self.name: "a fact hidden in a text of a given length and depth, then asked for (embedded text)"}

    def make(self, name: str, model: "Model", options: TaskOptions) -> NeedleTask:
        """The task, with all options about needles. Raises `RequestError` as `NeedleTask` does."""
        return NeedleTask(
            model.text_tokenizer,
            encode_length=prompt_length(model),
            lengths=options.lengths,
            depths=options.depths,
            examples=options.examples_a_length,
            haystack=options.haystack,
            needles=options.needles,
            seed=options.seed,
            questions=options.questions,
        )

    def several(self, task: str) -> bool:
        """Needles of one haystack."""
        return True

    def new_tokens(self, task: str) -> int:
        """Those of `NeedleTask`."""
        return MAX_NEW_TOKENS

    def default_examples(self, options: TaskOptions) -> int:
        """One per depth."""
        return options.depths

    def columns(self, task: str) -> Mapping[str, Check]:
        """Length and depth of the needle, and the papers' score of it."""
        return {**super().columns(task), "depth": number, "word_recall": number}

    def tables(self, records: "pd.DataFrame") -> "Mapping[str, pd.DataFrame]":
        """needle.csv: a row per method, budget, length and depth, with percent found and the papers' word recall."""
        groups = records.groupby(["method", "budget", "length", "depth"], dropna=False, sort=False)
        table = groups.agg(n=("score", "size"), score=("score", "mean"), word_recall=("word_recall", "mean"))
        table[["score", "word_recall"]] *= 100
        return {"needle.csv": table.reset_index()}


NEEDLE = Needle()
