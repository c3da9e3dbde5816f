"""Which method of this project stands beside which press of kvpress, and why the two may keep different tokens.

Read in kvpress 0.5.5. What is claimed here is measured by `compare_kvpress.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Tree = list[Any]
#: Of both, where nothing else is said: a window that leaves room at 64 tokens, and kvpress's pooling.
WINDOW = 8
LIKE_THEIRS = f"window={WINDOW}:kernel=5:pooling=avg"
SNAPKV: Tree = ["SnapKVPress", {"window_size": WINDOW, "kernel_size": 5}]
LAST = "kvpress does not protect the last token"


@dataclass(frozen=True)
class Pair:
    """Two implementations of one method.

    Attributes:
        name: the method, and what is special about this pair.
        ours: a method as `--method` takes it.
        theirs: the press for a budget, see `kvpress_side.py`.
        why: what the rules have different; empty where they should agree.
        timed: run it alone on both sides as well, for times, bytes and answers.
        way: "shared" where presses can be asked during one prefill, "eager" where that has to be one that tells the
            attention of every query, "kvzip" for KVzip.
    """

    name: str
    ours: str
    theirs: Callable[[int], Tree]
    why: str = ""
    timed: bool = False
    way: Literal["shared", "eager", "kvzip"] = "shared"


def always(tree: Tree) -> Callable[[int], Tree]:
    return lambda budget: tree


def half_beyond_the_window(budget: int) -> Tree:
    """CriticalKV with a first stage that is half of what lies beyond the window, as here, and not half of all."""
    return ["CriticalKVPress", {"first_stage_ratio": (WINDOW + (budget - WINDOW) // 2) / budget}, SNAPKV]


PAIRS = (
    Pair("StreamingLLM", "streaming-llm", always(["StreamingLLMPress", {}]), timed=True),
    Pair("SnapKV, same options", f"snapkv:{LIKE_THEIRS}", always(SNAPKV), timed=True),
    Pair(
        "SnapKV, own defaults",
        "snapkv",
        always(["SnapKVPress", {}]),
        "window 8 and the maximum of 7 here; window 64 and the average of 5 there, which leaves nothing else at 64",
    ),
    Pair(
        "Ada-SnapKV, no safeguard",
        f"ada-snapkv:{LIKE_THEIRS}:safeguard=0",
        always(["AdaKVPress", {"alpha_safeguard": 0.0}, SNAPKV]),
    ),
    Pair(
        "Ada-SnapKV",
        f"ada-snapkv:{LIKE_THEIRS}",
        always(["AdaKVPress", {}, SNAPKV]),
        "a fifth of the budget is split evenly here; there it is each head's least, window included",
        timed=True,
    ),
    Pair(
        "PyramidKV",
        f"pyramidkv:{LIKE_THEIRS}",
        always(["PyramidKVPress", {"window_size": WINDOW, "kernel_size": 5}]),
        "the window comes on top of the pyramid here and is inside it there; below 20 windows kvpress has no pyramid",
    ),
    Pair("TOVA", "tova:window=1", always(["TOVAPress", {}]), timed=True),
    Pair("Knorm", "knorm:window=1", always(["KnormPress", {}]), LAST),
    Pair("KeyDiff", "keydiff:window=1", always(["KeyDiffPress", {}]), LAST, timed=True),
    Pair("Expected Attention", "expected:window=1", always(["ExpectedAttentionPress", {}]), LAST),
    Pair("CriticalKV, same first stage", f"critical:{LIKE_THEIRS}", half_beyond_the_window),
    Pair(
        "CriticalKV",
        f"critical:{LIKE_THEIRS}",
        always(["CriticalKVPress", {}, SNAPKV]),
        "the first stage is half of what lies beyond the window here, and half of everything there",
    ),
    Pair(
        "Critical-Ada",
        f"critical-ada:{LIKE_THEIRS}:safeguard=0",
        always(["CriticalAdaKVPress", {"alpha_safeguard": 0.0}, SNAPKV]),
        "as for CriticalKV",
    ),
    Pair(
        "H2O and ObservedAttention",
        "h2o:window=1",
        always(["ObservedAttentionPress", {}]),
        "the sum over the queries here, their mean there; it favours late tokens, which few queries see",
        way="eager",
    ),
    Pair(
        "KVzip, heads of all layers compete",
        "kvzip:window=1+global:normalise=false",
        always(["KVzipPress", {}]),
        "other words ask for the repetition, and kvpress leaves the chat template's beginning out of it",
        way="kvzip",
    ),
    Pair(
        "Random, for scale",
        "random:window=1",
        always(["RandomPress", {"seed": 0}]),
        "chance: what two rules without a relation share",
    ),
)
