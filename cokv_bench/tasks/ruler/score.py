"""RULER's string match."""

from collections.abc import Sequence


def string_match_all(prediction: str, references: Sequence[str]) -> float:
    """The share of the references that occur in the prediction, case ignored, in [0, 1].

    As published, a reference occurs wherever its letters do, inside a longer word too.

    Args:
        references: at least one.
    """
    said = prediction.lower()
    return sum(reference.lower() in said for reference in references) / len(references)
