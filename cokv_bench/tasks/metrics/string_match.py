"""References that are looked for as they are: a reference occurs wherever its letters do, inside a longer word too."""

from collections.abc import Sequence


def string_match_all(prediction: str, answers: Sequence[str], all_classes: Sequence[str] = ()) -> float:
    """RULER's score: the share of all references that occur in the prediction, case ignored, in [0, 1].

    Args:
        answers: at least one.
    """
    said = prediction.lower()
    return sum(answer.lower() in said for answer in answers) / len(answers)


def string_match_part(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """RULER's score of question answering: 1.0 where the answer occurs in the prediction, case ignored, else 0.0."""
    return float(answer.lower() in prediction.lower())


def contains(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """SCBench's score of retrieval: 1.0 where the answer occurs in the prediction, case kept, else 0.0."""
    return float(answer in prediction)
