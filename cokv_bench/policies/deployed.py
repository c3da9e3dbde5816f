"""What every head keeps where the method of a head file runs without options: its window and protected first tokens.

Exports and head maps count tokens with it, so that they tell of the heads that `cokv-bench eval` has. No PyTorch is
needed for it.
"""

from dataclasses import dataclass

from cokv_bench.budgets.head_file import HeadFile
from cokv_bench.budgets.head_scores import WINDOW
from cokv_bench.policies.names import parse


@dataclass(frozen=True)
class Kept:
    """Tokens that every head keeps: `window` last ones and `sinks` first ones."""

    window: int
    sinks: int

    @property
    def tokens(self) -> int:
        """Both together, the `window` of `HeadFile.tokens_at`."""
        return self.window + self.sinks


def kept_by_all(file: HeadFile) -> Kept:
    """What every head keeps of a prompt, as `eval` has it where neither options nor knobs say otherwise.

    The options of the file's ranking come first, as in `fading:sinks=4`, then what else the file was made for. Values,
    scores and curves were made for no window, so their methods have the published one of 8 tokens, whatever a profile
    was measured with.
    """
    ranking = file.ranking
    named = dict(parse(ranking["scorer"]).ranking.options) if "scorer" in ranking else {}
    said = {"window": WINDOW, "sinks": 0, **ranking, **named}
    return Kept(int(said["window"]), int(said["sinks"]))
