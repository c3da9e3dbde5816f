"""The methods by name: which scorer and which allocator each one combines."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cokv_bench.errors import RequestError
from cokv_bench.policies.allocators import EmbeddedBudgets
from cokv_bench.policies.policy import Allocator, Policy, Scorer
from cokv_bench.registries import ALLOCATORS, SCORERS
from cokv_bench.registries import METHODS as POLICIES


@dataclass(frozen=True)
class Recipe:
    """How a named policy is put together.

    Attributes:
        description: one line with its source.
        scorer, allocator: classes (or functions) that make the halves; their parameters are the method's options.
        defaults: option values that differ from those of the classes.
    """

    description: str
    scorer: Callable[..., Scorer] | None
    allocator: Callable[..., Allocator] | None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> list[str]:
        """Names of the options it takes, sorted. All take published_rounding: one switch serves a comparison."""
        window = [] if self.scorer is None else ["window"]
        return sorted({*_parameters(self.scorer), *_parameters(self.allocator), *window, "published_rounding"})


_Half = TypeVar("_Half", Scorer, Allocator)


def register_policy(
    name: str,
    description: str,
    scorer: Callable[..., Scorer] | None,
    allocator: Callable[..., Allocator] | None,
    **defaults: Any,
) -> None:
    """Add a method under a name that `get_policy` and the command line know.

    Args:
        name: as on the command line.
        description: one line with its source.
        scorer, allocator: classes of `policies/scorers` and `policies/allocators`, or your own (see `Scorer` and
            `Allocator`); their parameters become the method's options.
        defaults: option values that differ from those of the classes.

    Raises:
        RequestError: the name is taken, or one half is missing.
    """
    if (scorer is None) != (allocator is None):
        raise RequestError(f"Method '{name}' needs both a scorer and an allocator.")
    POLICIES.add(name, description, Recipe(description, scorer, allocator, defaults))


def get_policy(name: str, **options: Any) -> Policy:
    """The policy of that name.

    Args:
        name: one of `POLICIES`.
        options: by method, kernel and pooling (window attention), safeguard (Ada-KV), beta (pyramids), sinks
            (StreamingLLM), seed (random), budgets (HeadKV, CoKV and CoKV-Search: a function from a budget to int
            [layers, kv_heads], window included), window (at most that of the prompts; default theirs), and
            published_rounding.

    Raises:
        RequestError: no such method, an option that it does not take or with a value it cannot have.
    """
    recipe = POLICIES.get(name)
    for option in options:
        if option not in recipe.options:
            raise RequestError(f"Method '{name}' takes no option '{option}'; it takes {', '.join(recipe.options)}.")
    given = {**recipe.defaults, **options}
    halves = _make(recipe.scorer, given), _make(recipe.allocator, given)
    return Policy(name, recipe.description, *halves, window=given.get("window"))


def _make(factory: Callable[..., _Half] | None, options: Mapping[str, Any]) -> _Half | None:
    if factory is None:
        return None
    return factory(**{name: options[name] for name in _parameters(factory) if name in options})


def _parameters(factory: Callable[..., Any] | None) -> list[str]:
    return [] if factory is None else list(inspect.signature(factory).parameters)


def _recipe(name: str, scorer: str, allocator: str, **defaults: Any) -> Recipe:
    return Recipe(POLICIES.line(name), SCORERS.get(scorer), ALLOCATORS.get(allocator), defaults)


FULL = Recipe(POLICIES.line("full"), None, None)
STREAMING_LLM = _recipe("streaming-llm", "sinks-recency", "uniform")
H2O = _recipe("h2o", "accumulated", "uniform")
SNAPKV = _recipe("snapkv", "window", "uniform")
PYRAMIDKV = _recipe("pyramidkv", "window", "pyramid")
ADA_SNAPKV = _recipe("ada-snapkv", "window", "adaptive")
ADA_PYRAMID = _recipe("ada-pyramid", "window", "ada-pyramid")
HEADKV = _recipe("headkv", "window", "static", budgets=EmbeddedBudgets("headkv"))
COKV = _recipe("cokv", "window", "static", budgets=EmbeddedBudgets("cokv"))
COKV_SEARCH = _recipe("cokv-search", "window", "static", budgets=EmbeddedBudgets("cokv-search"))
RANDOM = _recipe("random", "random", "uniform")
