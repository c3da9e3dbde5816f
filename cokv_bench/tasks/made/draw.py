"""Choices that depend on their given parts alone: the same in every process and on every machine."""

import hashlib

from cokv_bench.tasks.base import Split, in_profile_split, side_of

_PROFILE_SHARE = 0.4


def draw(n: int, *parts: object) -> int:
    """A number in 0..n-1 that the parts decide; unlike `random`, no draw depends on the draws before it."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % n


def value_side(value: str) -> str:
    """ "profile" or "test": the only one of the two in which a slot value (a city, a name, a number) may appear."""
    return "profile" if in_profile_split(_named(value), share=_PROFILE_SHARE) else "test"


def may_appear(value: str, split: Split) -> bool:
    """Whether a value that is drawn and not listed (a number, a UUID, letters) may appear in a split.

    "report" draws from the side of "test" with seeds of its own: two of its values are equal to one of that split as
    rarely as two of that split are, and its numbers are neither longer nor shorter.
    """
    return (value_side(value) == "profile") == (split == "profile")


def title_side(title: str) -> Split:
    """ "profile", "test" or "report": the split of all that stands under a title."""
    return side_of(_named(title), profile_share=_PROFILE_SHARE)


def _named(value: str) -> str:
    return f"needle value {value}"
