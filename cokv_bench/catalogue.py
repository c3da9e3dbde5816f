"""The lists of `cokv-bench ls`: names and one line each, and the check of names, without PyTorch."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cokv_bench import registries
from cokv_bench.errors import unknown
from cokv_bench.models.embedded import NAMES
from cokv_bench.policies.names import HOW
from cokv_bench.policies.names import check as check_method
from cokv_bench.registry import Registry
from cokv_bench.tasks import registry as tasks

REGISTRIES: Mapping[str, Registry[Any]] = {
    "methods": registries.METHODS,
    "scorers": registries.SCORERS,
    "allocators": registries.ALLOCATORS,
    "estimators": registries.ESTIMATORS,
    "samplings": registries.SAMPLINGS,
    "utilities": registries.UTILITIES,
    "metrics": registries.METRICS,
    "engines": registries.ENGINES,
    "exports": registries.EXPORTS,
}


def _models() -> dict[str, str]:
    checked = "any decoder that passes the check on loading, see docs/models.md"
    return {
        **NAMES,
        "FOLDER": f"a folder in transformers' format with safetensors weights ({checked})",
        "OWNER/NAME": f"a model of the Hugging Face hub ({checked})",
    }


# What is named by more than a registry's names: a file or a folder is one as well.
_OTHERS: Mapping[str, Callable[[], dict[str, str]]] = {"tasks": tasks.lines, "models": _models}
#: What is said below a list.
NOTES = {"methods": HOW}
#: In the order of the help text of `cokv-bench ls`.
KINDS = ("methods", "tasks", "models", *(kind for kind in REGISTRIES if kind != "methods"))


def catalogue(kind: str) -> dict[str, str]:
    """Names and descriptions of a kind. Raises `RequestError` with the nearest kinds for an unknown one."""
    if kind not in KINDS:
        raise unknown("list", kind, KINDS)
    if kind in _OTHERS:
        return _OTHERS[kind]()
    return {name: REGISTRIES[kind].line(name) for name in REGISTRIES[kind]}


def origins(kind: str) -> dict[str, str]:
    """Where the entries of a kind come from, by name: the package or a plug-in; nothing for models."""
    if kind == "tasks":
        return tasks.origins()
    found = REGISTRIES.get(kind)
    return {} if found is None else {name: found.origin(name) for name in found}


def check(kind: str, names: Iterable[str]) -> None:
    """Refuse a name that a registry does not have, before anything is loaded.

    Raises:
        RequestError: with the nearest names.
    """
    for name in names:
        if kind == "methods":
            check_method(name)  # which may have options, or be a pair
        else:
            REGISTRIES[kind].check(name)
