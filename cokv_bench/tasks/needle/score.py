"""How an answer is looked for in a prediction."""

from collections.abc import Iterable

from cokv_bench.tasks.made.words import normalise, occurs


def score_answers(answers: Iterable[str], prediction: str) -> dict[str, float]:
    """The best over the answers of each measure.

    "score" is 1.0 where an answer occurs whole in the prediction, "word_recall" the share of the answer's
    different words that occur anywhere in it (the measure of the published needle tests). Between spaces a script that
    has none between words counts as one word.
    """
    said = normalise(prediction)
    best = {"score": 0.0, "word_recall": 0.0}
    for answer in map(normalise, answers):
        wanted = set(answer.split())
        best["score"] = max(best["score"], float(occurs(answer, said)))
        recalled = sum(occurs(word, said) for word in wanted)
        best["word_recall"] = max(best["word_recall"], recalled / len(wanted) if wanted else 0.0)
    return best
