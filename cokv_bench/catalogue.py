"""What there is, by kind: names and one line each, read off the registries."""

from collections.abc import Callable

from cokv_bench.errors import unknown
from cokv_bench.game.estimators import ESTIMATORS
from cokv_bench.game.sampling import SAMPLINGS
from cokv_bench.game.utilities import UTILITIES
from cokv_bench.models.embedded import NAMES
from cokv_bench.models.support import SUPPORTED
from cokv_bench.policies import POLICIES
from cokv_bench.tasks.longbench import specs
from cokv_bench.tasks.registry import DESCRIPTIONS


def _models() -> dict[str, str]:
    families = ", ".join(SUPPORTED)
    return {
        **NAMES,
        "FOLDER": f"a folder in transformers' format with safetensors weights ({families})",
        "OWNER/NAME": f"a model of the Hugging Face hub ({families})",
    }


def _tasks() -> dict[str, str]:
    each = {
        f"longbench/{name}": f"{spec.language}, {spec.metric}, up to {spec.max_new_tokens} new tokens"
        for name, spec in specs().items()
    }
    return {**DESCRIPTIONS, **each}


CATALOGUES: dict[str, Callable[[], dict[str, str]]] = {
    "methods": lambda: {name: recipe.description for name, recipe in POLICIES.items()},
    "tasks": _tasks,
    "models": _models,
    "estimators": lambda: {name: estimator.description for name, estimator in ESTIMATORS.items()},
    "samplings": lambda: {name: sampling.description for name, sampling in SAMPLINGS.items()},
    "utilities": lambda: {name: utility.description for name, utility in UTILITIES.items()},
}


def catalogue(kind: str) -> dict[str, str]:
    """Names and descriptions of a kind. Raises `RequestError` with the nearest kinds for an unknown one."""
    if kind not in CATALOGUES:
        raise unknown("list", kind, CATALOGUES)
    return CATALOGUES[kind]()
