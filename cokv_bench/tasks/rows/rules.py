"""How rows become prompts and how predictions on them are scored."""

from collections.abc import Sequence
from dataclasses import Field, dataclass, fields
from typing import Any

from cokv_bench.tasks.base import content_id
from cokv_bench.tasks.metrics import best_score, first_line

BUCKETS = ("0-4k", "4-8k", "8k+")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How rows in LongBench's schema become prompts, and how predictions are scored.

    Attributes:
        template: prompt with the places {context} and {input}, and those that the rows have besides.
        metric: name in `cokv_bench.tasks.metrics.METRICS`; its value is the score.
        extra_metrics: names of metrics that become further columns.
        max_new_tokens: the most tokens to generate.
        chat: wrap the prompt in the model's chat template.
        first_line: score the first line of a prediction only.
        stop_at_newline: end the answer at the first newline after at least one token.
        truncate: cut the middle out of prompts that are too long; otherwise they are refused.
        version: moves when prompt or scoring changes.
    """

    template: str
    metric: str
    max_new_tokens: int
    chat: bool
    first_line: bool
    stop_at_newline: bool
    extra_metrics: tuple[str, ...] = ()
    truncate: bool = True
    version: int = 1

    @property
    def digest(self) -> str:
        """16 hex digits of what is not at its default, so that further rules leave it as it is."""
        return content_id(*(f"{each.name}={getattr(self, each.name)}" for each in fields(self) if self._is_set(each)))

    def _is_set(self, field: Field[Any]) -> bool:
        return bool(getattr(self, field.name) != field.default)


def bucket_of(length: int) -> str:
    """LongBench-E's bucket of a length in words (characters for Chinese): below 4000, below 8000, the rest."""
    return BUCKETS[(length >= 4000) + (length >= 8000)]


def score_columns(
    rules: Rules, prediction: str, answers: Sequence[str], all_classes: Sequence[str] | None
) -> dict[str, float]:
    """ "score" by the metric of the rules, and one column for each of their extra metrics; in [0, 1]."""
    scored = scored_part(rules, prediction)
    metrics = {"score": rules.metric, **{name: name for name in rules.extra_metrics}}
    return {column: best_score(name, scored, answers, all_classes) for column, name in metrics.items()}


def scored_part(rules: Rules, prediction: str) -> str:
    """What of a prediction is scored."""
    return first_line(prediction) if rules.first_line else prediction
