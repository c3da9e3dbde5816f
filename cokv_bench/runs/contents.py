"""Hashes of what examples ask and accept, in the configurations of runs; earlier versions kept few of them."""

from collections.abc import Collection, Mapping
from typing import Any

_CONTENTS = "contents"


def as_kept(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the hashes that those which are there do not have: nobody can tell whether they would differ.

    Args:
        wanted: settings with `tasks`, by name.
        found: those of a run or a file of knobs, perhaps of an earlier version.
    """
    tasks = found.get("tasks")
    kept = tasks if isinstance(tasks, dict) else {}
    unknown = _without(wanted, [task for task in wanted["tasks"] if not _has_contents(kept.get(task))])
    # Other examples have other contents, which would only hide what else differs.
    told = {task: _as_there(settings, kept.get(task)) for task, settings in unknown["tasks"].items()}
    return {**unknown, "tasks": told}


def naming(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What the name of a run is made of: as in earlier versions, the hashes of a user's own rows alone are in it."""
    tasks = configuration["tasks"].items()
    return _without(configuration, [task for task, told in tasks if "rules" not in told])


def _as_there(wanted: Mapping[str, Any], found: Any) -> dict[str, Any]:
    there = _has_contents(found) and found.get("ids") != wanted.get("ids")
    return {**wanted, _CONTENTS: found[_CONTENTS]} if there else dict(wanted)


def _has_contents(told: Any) -> bool:
    return isinstance(told, dict) and told.get(_CONTENTS) is not None


def _without(settings: Mapping[str, Any], tasks: Collection[str]) -> dict[str, Any]:
    kept = {
        task: {name: value for name, value in told.items() if task not in tasks or name != _CONTENTS}
        for task, told in settings["tasks"].items()
    }
    return {**settings, "tasks": kept}
