"""Choices that depend on their given parts alone: the same in every process and on every machine."""

import hashlib

from cokv_bench.tasks.base import in_profile_split


def draw(n: int, *parts: object) -> int:
    """A number in 0..n-1 that the parts decide; unlike `random`, no draw depends on the draws before it."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % n


def value_side(value: str) -> str:
    """ "profile" or "test": the only split in which a slot value (a city, a name, a number) may appear."""
    return "profile" if in_profile_split(f"needle value {value}", share=0.4) else "test"
