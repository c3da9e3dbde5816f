"""Head maps: what our JSON files say of each head, and the budgets of a run's static methods where they are known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets import HeadBudgets, HeadScores, HeadShares, HeadValues, embedded
from cokv_bench.budgets.checked_json import strict_loads
from cokv_bench.errors import RequestError
from cokv_bench.files import at_home, file_sha256

#: Budget of maps where no run has one.
BUDGET = 128
HeadFile = HeadBudgets | HeadValues | HeadScores | HeadShares
_KINDS: dict[str, type[HeadBudgets] | type[HeadValues] | type[HeadScores] | type[HeadShares]] = {
    "head-budgets": HeadBudgets,
    "head-values": HeadValues,
    "head-scores": HeadScores,
    "head-shares": HeadShares,
}
Array = NDArray[np.float64]
#: What the rules of the static methods can be told.
_RULE = ("window", "zeroed", "beta")


@dataclass(frozen=True)
class HeadMap:
    """What is known of a model's heads under one name.

    Attributes:
        name: for the reader.
        tokens: budget -> tokens a KV head, int64 [layers, kv_heads]; of a budgets file, whatever is asked, its own.
        budget: the only budget that there is, of a budgets file.
        measured: float64 [layers, heads] by what they are: values, standard errors (KV heads), scores (query heads).
        utility: in whose units values and standard errors are; empty for scores.
    """

    name: str
    tokens: Callable[[int], NDArray[np.int64]]
    budget: int | None = None
    measured: Mapping[str, Array] = field(default_factory=dict)
    utility: str = ""


def load_heads(path: Path) -> HeadFile:
    """Read any of our files on heads: budgets, values, shares or head scores; of a folder its values or shares.

    Raises:
        RequestError: no such file, another JSON file, or one that does not pass its checks.
    """
    if path.is_dir():
        found = [path / name for name in ("values.json", "shares.json") if (path / name).is_file()]
        if not found:
            raise RequestError(f"{path} holds neither values.json nor shares.json; name a file of head budgets.")
        path = found[0]
    try:
        document = strict_loads(path.read_bytes())
    except OSError as error:
        raise RequestError(f"Cannot read {path}: {error.strerror}.") from None
    except ValueError as error:
        raise RequestError(f"{path} is not a JSON file on heads: {error}.") from None
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise RequestError(f"{path} is of kind {kind!r}; expected {', '.join(_KINDS)}.")
    return _KINDS[kind].load(path)


def head_map(
    name: str,
    file: HeadFile,
    *,
    window: int | None = None,
    zeroed: int | None = None,
    beta: float | None = None,
    published_rounding: bool = False,
) -> HeadMap:
    """A file as a map.

    Args:
        window: of the budgets; default the file's own, or 8 for head scores.
        zeroed: CoKV's alpha; default the profile's choice.
        beta: HeadKV's; default the choice that was made with the scores.
        published_rounding: of CoKV's and HeadKV's rules.
    """
    if isinstance(file, HeadBudgets):
        return HeadMap(name, lambda budget: file.tokens, file.budget)
    if isinstance(file, HeadShares):
        return HeadMap(name, lambda budget: file.budgets(budget, window=window or file.window))
    if isinstance(file, HeadScores):
        return HeadMap(
            name,
            lambda budget: file.budgets(
                budget, window=window or embedded.WINDOW, beta=beta, published_rounding=published_rounding
            ),
            measured={"head score": file.scores},
        )
    return HeadMap(
        name,
        lambda budget: file.budgets(
            budget, window=window or file.window, zeroed=zeroed, published_rounding=published_rounding
        ),
        measured={"head value": file.values, "standard error": file.standard_errors},
        utility=file.utility,
    )


def named_map(text: str) -> HeadMap:
    """A map that the command line names. Raises `RequestError` where it is not NAME=FILE, or the file is not ours."""
    name, _, path = text.partition("=")
    if not name or not path:
        raise RequestError(f"'{text}' names no head map; write NAME=FILE, such as searched=shares.json.")
    return head_map(name, load_heads(at_home(Path(path))))


def maps_of_run(configuration: Mapping[str, Any]) -> list[HeadMap]:
    """Maps of a run's methods whose budgets came from the embedded files; those of other files must be named.

    A map for each benchmark where the rule had settings of its own there.
    """
    shipped = {
        "profile": embedded.values_path(),
        "head_scores": embedded.scores_path(),
        "shares": embedded.shares_path(),
    }
    maps = []
    for method, source in configuration.get("head_budgets", {}).items():
        for key, path in shipped.items():
            if source.get(key) == file_sha256(path):
                file = load_heads(path)
                maps += [
                    _map_of_run(name, file, configuration, source, chosen)
                    for name, chosen in _chosen(configuration, method).items()
                ]
    return maps


def _chosen(configuration: Mapping[str, Any], method: str) -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """What the method's rule had by budget: one entry of the method's name, or one a benchmark where these differ."""
    benchmarks = {
        name: {
            budget: {option: value for option, value in options.items() if option in _RULE}
            for budget, options in methods.get(method, {}).items()
        }
        for name, methods in configuration.get("knobs", {}).get("chosen", {}).items()
    }
    first = next(iter(benchmarks.values()), {})
    if all(each == first for each in benchmarks.values()):
        return {method: first}
    return {f"{method}, {name}": by_budget for name, by_budget in benchmarks.items()}


def _map_of_run(
    name: str,
    file: HeadFile,
    configuration: Mapping[str, Any],
    source: Mapping[str, Any],
    chosen: Mapping[str, Mapping[str, Any]],
) -> HeadMap:
    asked = {option: source[option] for option in _RULE if source.get(option) is not None}

    def made(budget: int) -> HeadMap:
        return head_map(
            name,
            file,
            published_rounding=configuration.get("published_rounding", False),
            **{"window": configuration["window"], **chosen.get(str(budget), {}), **asked},
        )

    return replace(made(BUDGET), tokens=lambda budget: made(budget).tokens(budget))
