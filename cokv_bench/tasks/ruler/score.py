"""RULER's string matches: as published, a reference occurs wherever its letters do, inside a longer word too."""

from collections.abc import Callable, Sequence


def string_match_all(prediction: str, references: Sequence[str]) -> float:
    """The share of the references that occur in the prediction, case ignored, in [0, 1].

    Args:
        references: at least one.
    """
    said = prediction.lower()
    return sum(reference.lower() in said for reference in references) / len(references)


def string_match_part(prediction: str, references: Sequence[str]) -> float:
    """1.0 where any of the references occurs in the prediction, case ignored, otherwise 0.0."""
    said = prediction.lower()
    return float(any(reference.lower() in said for reference in references))


METRICS: dict[str, Callable[[str, Sequence[str]], float]] = {
    "string_match_all": string_match_all,
    "string_match_part": string_match_part,
}
