"""Which tasks a model cannot do even with its full cache: there no method can be told from another."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cokv_bench.policies.names import base
from cokv_bench.scores.intervals import interval
from cokv_bench.scores.means import groups
from cokv_bench.scores.units import scale_of

#: Methods that choose tokens without looking at the prompt's content.
_UNINFORMED = ("random", "streaming-llm")


def at_chance(frame: pd.DataFrame, configuration: Mapping[str, Any]) -> list[str]:
    """Tasks and means over tasks on which the full cache is not shown to be above chance.

    Chance is what a method scores that does not look at the prompt's content, `random` or else `streaming-llm`, at the
    budget at which least is kept; in a run without them the 0 of an empty answer (for a utility nothing is known then).
    The full cache is at chance where the 95% interval of its gain over that, example by example, reaches 0. Nothing is
    said of a mean while one of its tasks lacks records of either.

    Args:
        frame: the records of a run.
        configuration: of the run.
    """
    scale = scale_of(configuration)
    keys = ["task", "example"]
    full = frame[frame["method"] == "full"].set_index(keys)["score"]
    kept = frame.dropna(subset="budget").groupby("budget")["kept_tokens"].mean()
    # Of budgets in tokens and shares of the prompt no other order says which is smaller.
    smallest = frame[frame["budget"] == kept.idxmin()] if len(kept) else frame[:0]
    # One with options in its name looks no closer than its base.
    blind = [method for name in _UNINFORMED for method in smallest["method"].unique() if base(method) == name]
    floors = (smallest[smallest["method"] == method].set_index(keys)["score"] for method in blind)
    floor = next((each for each in floors if len(each)), full * 0 if scale.gains else full[:0])
    gains = (scale.factor * (full - floor)).dropna()
    by_task = {str(task): gain.to_numpy(float) for task, gain in gains.groupby(level="task")}
    begun = set(frame["task"])
    behind = groups(task for task in configuration["tasks"] if task in begun)
    whole = {name: group for name, group in behind.items() if set(group) <= set(by_task)}
    lows = {name: interval([by_task[task] for task in group], scale.gains)[0] for name, group in whole.items()}
    return [name for name, low in lows.items() if low <= 0]


def is_loss(frame: pd.DataFrame, tasks: Sequence[str], methods: Sequence[str], budget: Any) -> bool:
    """Whether one of some methods scores less than the full cache, mean over tasks.

    Args:
        frame: the records of a run.
        budget: one of the run's, missing for all.
    """
    mine = frame[frame["task"].isin(tasks)]
    full = mine[mine["method"] == "full"].groupby("task")["score"].mean().mean()
    limited = mine[mine["budget"].notna() if pd.isna(budget) else mine["budget"] == budget]
    return any(limited[limited["method"] == name].groupby("task")["score"].mean().mean() < full for name in methods)
