"""Few-shot classification: is the right class named, and how few others are."""

from collections.abc import Sequence

from cokv_bench.errors import RequestError


def classification(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """1 / (classes named in the prediction) if the right class is among them, otherwise 0; in [0, 1].

    Raises:
        RequestError: there is no list of class names.
    """
    if not all_classes:
        raise RequestError("The metric 'classification' needs the class names of the task in 'all_classes'.")
    named = [name for name in all_classes if name in prediction]
    # A class name inside the right one ("location" in "Other location") is no second guess. The official scorer
    # removes such names from the list that it is walking, so the name after a removed one is not looked at.
    position = 0
    while position < len(named):
        name = named[position]
        if name != answer and name in answer:
            named.remove(name)
        position += 1
    return 1.0 / len(named) if answer in named else 0.0
