"""What there is, by kind: names and one line each, read off the registries, without PyTorch."""

import sys
from collections.abc import Callable, Iterable

from cokv_bench.errors import unknown
from cokv_bench.methods import METHODS
from cokv_bench.models.embedded import NAMES
from cokv_bench.models.support import SUPPORTED
from cokv_bench.tasks.registry import lines


def _methods() -> dict[str, str]:
    # Methods compute with torch. Who has added one of their own has imported the registry.
    registry = sys.modules.get("cokv_bench.policies.registry")
    added = {} if registry is None else {name: recipe.description for name, recipe in registry.POLICIES.items()}
    return {**METHODS, **{name: line for name, line in added.items() if name not in METHODS}}


def _models() -> dict[str, str]:
    families = ", ".join(SUPPORTED)
    return {
        **NAMES,
        "FOLDER": f"a folder in transformers' format with safetensors weights ({families})",
        "OWNER/NAME": f"a model of the Hugging Face hub ({families})",
    }


def _estimators() -> dict[str, str]:
    from cokv_bench.game.estimators import ESTIMATORS  # With SciPy, which takes a second.

    return {name: estimator.description for name, estimator in ESTIMATORS.items()}


def _samplings() -> dict[str, str]:
    from cokv_bench.game.sampling import SAMPLINGS

    return {name: sampling.description for name, sampling in SAMPLINGS.items()}


def _utilities() -> dict[str, str]:
    from cokv_bench.game.utilities import UTILITIES

    return {name: utility.description for name, utility in UTILITIES.items()}


CATALOGUES: dict[str, Callable[[], dict[str, str]]] = {
    "methods": _methods,
    "tasks": lines,
    "models": _models,
    "estimators": _estimators,
    "samplings": _samplings,
    "utilities": _utilities,
}


def catalogue(kind: str) -> dict[str, str]:
    """Names and descriptions of a kind. Raises `RequestError` with the nearest kinds for an unknown one."""
    if kind not in CATALOGUES:
        raise unknown("list", kind, CATALOGUES)
    return CATALOGUES[kind]()


def check(kind: str, names: Iterable[str]) -> None:
    """Refuse a name that a kind does not have, before anything is loaded.

    Raises:
        RequestError: with the nearest names.
    """
    known = catalogue(kind)
    singular = {"utilities": "utility"}.get(kind, kind.removesuffix("s"))
    for name in names:
        if name not in known:
            raise unknown(singular, name, known)
