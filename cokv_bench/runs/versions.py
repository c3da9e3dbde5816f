"""What produced a result: versions of the software and the revision of the working tree."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that results depend on, and the git revision; None for what is missing."""
    packages = ["cokv-bench", "torch", "transformers", "datasets", "numpy", "scipy", "rouge", "fuzzywuzzy", "jieba"]
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}, "git": _revision()}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _revision() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
