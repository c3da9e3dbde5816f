"""Where the names of lines stand at their ends, so that none covers another, whoever draws them."""

from collections.abc import Sequence

#: Characters that a name at the end of a line may have; the middle of longer ones is left out.
_LONGEST = 34


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places for labels: each as near as possible to where it should be, and a gap from its neighbours.

    The sum of the squared distances from the wanted places is the least that the gaps allow. Labels that are too many
    for the room share it evenly.

    Args:
        wanted: where each label should be; labels keep this order.
        gap: least distance of the middles of two labels, in the same unit.
        low, high: ends of the room; the middle of no label is beyond them.
    """
    if not wanted:
        return []
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    # Less the gaps below it, each label may be where the one before is: neighbours in the wrong order share their mean.
    blocks: list[list[float]] = []
    for rank, index in enumerate(order):
        blocks.append([wanted[index] - rank * gap])
        while len(blocks) > 1 and _mean(blocks[-2]) >= _mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    top = high - (len(wanted) - 1) * gap
    placed = [min(max(_mean(block), low), top) for block in blocks for _ in block]
    places = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        places[index] = placed[rank] + rank * gap
    return places


def shorten(name: str) -> str:
    """A name with its middle left out where it is long: what tells two long names apart is mostly at their ends."""
    if len(name) <= _LONGEST:
        return name
    half = (_LONGEST - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
