"""Head maps: what our JSON files say of each head, and the budgets of a run's static methods where they are known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets import HeadFile, embedded, load_head_file
from cokv_bench.budgets.knobs import as_read
from cokv_bench.errors import RequestError
from cokv_bench.files import at_home, file_sha256
from cokv_bench.policies.deployed import kept_by_all
from cokv_bench.policies.names import parse

#: Budget of maps where no run has one.
BUDGET = 128
Array = NDArray[np.float64]


@dataclass(frozen=True)
class HeadMap:
    """What is known of a model's heads under one name.

    Attributes:
        name: for the reader.
        tokens: budget -> tokens per KV head, int64 [layers, kv_heads]; of a budgets file, whatever is asked, its own.
        budget: the only budget that there is, of a budgets file.
        measured: float64 [layers, heads] by what they are: values, standard errors (KV heads), scores (query heads).
        utility: in whose units values and standard errors are; empty for scores.
    """

    name: str
    tokens: Callable[[int], NDArray[np.int64]]
    budget: int | None = None
    measured: Mapping[str, Array] = field(default_factory=dict)
    utility: str = ""


def head_map(
    name: str,
    file: HeadFile,
    *,
    window: int | None = None,
    knobs: Mapping[str, Any] = MappingProxyType({}),
    published_rounding: bool = False,
) -> HeadMap:
    """A file as a map.

    Args:
        window: what every head keeps, protected first tokens included; default as in a run without options.
        knobs: of its rule by name; default the file's choice.
        published_rounding: of its rule.
    """

    held = kept_by_all(file).tokens if window is None else window

    def tokens(budget: int) -> NDArray[np.int64]:
        own = budget if file.only_budget is None else file.only_budget
        return file.tokens_at(own, window=held, knobs=knobs, published_rounding=published_rounding)

    return HeadMap(name, tokens, file.only_budget, file.measured, file.utility)


def named_map(text: str) -> HeadMap:
    """A map that the command line names. Raises `RequestError` where it is not NAME=FILE, or the file is not ours."""
    name, _, path = text.partition("=")
    if not name or not path:
        raise RequestError(f"'{text}' names no head map; write NAME=FILE, such as searched=shares.json.")
    return head_map(name, load_head_file(at_home(Path(path))))


def maps_of_run(configuration: Mapping[str, Any]) -> list[HeadMap]:
    """Maps of a run's methods whose budgets came from the embedded files; those of other files must be named.

    A map for each benchmark where the rule had settings of its own there.
    """
    shipped = [(path(), load_head_file(path())) for path in embedded.SHIPPED.values()]
    return [
        _map_of_run(name, method, file, configuration, source, chosen)
        for method, source in configuration.get("head_budgets", {}).items()
        for path, file in shipped
        if source.get(file.key) == file_sha256(path)
        for name, chosen in _chosen(configuration, method, ("window", "sinks", *file.knobs)).items()
    ]


def _chosen(
    configuration: Mapping[str, Any], method: str, told: Sequence[str]
) -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """What the method's rule had by budget: one entry of the method's name, or one a benchmark where these differ.

    Args:
        told: what the rule can be told.
    """
    benchmarks = {
        name: {
            budget: {option: value for option, value in as_read(options).items() if option in told}
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
    method: str,
    file: HeadFile,
    configuration: Mapping[str, Any],
    source: Mapping[str, Any],
    chosen: Mapping[str, Mapping[str, Any]],
) -> HeadMap:
    asked = {option: value for option, value in as_read(source).items() if value is not None}
    protected = {"sinks": configuration["sinks"]} if "sinks" in configuration else {}
    protected |= {option: int(value) for option, value in parse(method).ranking.options if option == "sinks"}

    def made(budget: int) -> HeadMap:
        usual = {"window": configuration["window"], "sinks": kept_by_all(file).sinks}
        told = {**usual, **chosen.get(str(budget), {}), **protected, **asked}
        return head_map(
            name,
            file,
            window=told["window"] + told["sinks"],
            knobs={knob: told[knob] for knob in file.knobs if knob in told},
            published_rounding=configuration.get("published_rounding", False),
        )

    return replace(made(BUDGET), tokens=lambda budget: made(budget).tokens(budget))
