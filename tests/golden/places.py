"""Where the golden numbers are: all of them in shared/golden beside the checkout, or else the pieces in data/."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PIECES = Path(__file__).resolve().parent / "data"


def place(name: str) -> Path:
    """The folder of that name in shared/golden where it is there, or else in data/."""
    whole = SHARED / "golden" / name
    return whole if whole.is_dir() else PIECES / name


def whole(name: str) -> pytest.MarkDecorator:
    """Skips a test that needs more than the pieces."""
    missing = not (SHARED / "golden" / name).is_dir()
    return pytest.mark.skipif(
        missing, reason=f"shared/golden/{name} is not beside this checkout; data/ has only pieces"
    )
