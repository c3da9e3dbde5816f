"""LongBench's scores: of one prediction, of a data set, and of LongBench-E's length buckets."""

from collections.abc import Sequence

from cokv_bench.errors import RequestError
from cokv_bench.tasks.longbench.specs import spec_of
from cokv_bench.tasks.metrics import best_score
from cokv_bench.tasks.rows.rules import BUCKETS, bucket_of, scored_part


def score(task: str, prediction: str, answers: Sequence[str], all_classes: Sequence[str] | None = None) -> float:
    """The official score of one prediction: best over the answers, in [0, 1], not rounded.

    Equal to THUDM/LongBench's scorer case by case, its post-processing included, but for one thing: a summary too
    long for the recursion of the `rouge` package gets its true score here, and 0 there.

    Args:
        task: plain name, such as "hotpotqa" or "hotpotqa_e".
        prediction: generated text.
        answers: accepted answers.
        all_classes: class names; needed for trec and lsht.

    Raises:
        RequestError: unknown task, missing class names, or an answer that the metric cannot read.
    """
    spec = spec_of(task)
    return best_score(spec.metric, scored_part(spec, prediction), answers, all_classes)


def dataset_score(
    task: str,
    predictions: Sequence[str],
    answers: Sequence[Sequence[str]],
    all_classes: Sequence[str] | None = None,
) -> float:
    """Mean score x 100 of a data set, not rounded (the official scorer rounds to 2 places).

    Raises:
        RequestError: there are no predictions, or as for `score`.
    """
    if not predictions:
        raise RequestError(f"There are no predictions to score for LongBench task '{task}'.")
    scores = [score(task, text, refs, all_classes) for text, refs in zip(predictions, answers, strict=True)]
    return 100 * sum(scores) / len(scores)


def bucket_scores(
    task: str,
    predictions: Sequence[str],
    answers: Sequence[Sequence[str]],
    lengths: Sequence[int],
    all_classes: Sequence[str] | None = None,
) -> dict[str, float | None]:
    """LongBench-E: mean score x 100 in each length bucket, not rounded; None for a bucket without rows."""
    buckets: dict[str, list[float]] = {bucket: [] for bucket in BUCKETS}
    for text, refs, length in zip(predictions, answers, lengths, strict=True):
        buckets[bucket_of(length)].append(score(task, text, refs, all_classes))
    return {bucket: 100 * sum(s) / len(s) if s else None for bucket, s in buckets.items()}
