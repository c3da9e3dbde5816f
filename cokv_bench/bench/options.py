"""A benchmark of decoding as it is asked for."""

from dataclasses import dataclass
from typing import Annotated

from cokv_bench.budget import Budget
from cokv_bench.option import Option


@dataclass(frozen=True)
class BenchOptions:
    """What is measured: methods at budgets, on prompts of some lengths."""

    methods: Annotated[
        tuple[str, ...],
        Option(
            "Methods; FullKV is always measured. Default: snapkv, and cokv or ada-snapkv.",
            name="method",
        ),
    ] = ()
    budgets: Annotated[
        tuple[Budget, ...],
        Option(
            "Tokens kept per KV head on average, window included, or a share of each prompt such as 25%; comma "
            "separated.",
            name="budget",
        ),
    ] = (128,)
    lengths: Annotated[tuple[int, ...], Option("Prompt lengths in tokens, comma separated.")] = (1024, 2048)
    new_tokens: Annotated[int, Option("Tokens per answer, 2 or more.")] = 32
    rows: Annotated[int, Option("Number of equal prompts that decode as one batch.", least=1)] = 1
    repeats: Annotated[int, Option("Repeat each measurement this often and report the median.", least=1)] = 3
    chunk: Annotated[
        int | None,
        Option(
            "Prompt tokens that a layer reads at a time. Default: as many as fit; FullKV reads all at once.", least=1
        ),
    ] = None
    window: Annotated[int, Option("Last prompt tokens that every head keeps; part of the budget.", least=1)] = 8
    seed: Annotated[int, Option("Fixes the prompt and random weights.", least=0)] = 0
