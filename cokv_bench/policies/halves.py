"""The two halves of a method with their options, and what a named method is put together from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cokv_bench.policies.options import make, parameters
from cokv_bench.policies.policy import Allocator, Scorer, published_of

#: Options that every method has which evicts something, with what their texts are read as.
OF_ALL: Mapping[str, Any] = {"window": int, "observe": int, "sinks": int}


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


@dataclass(frozen=True)
class Half:
    """A scorer or an allocator as a method has it.

    Attributes:
        factory: the class or function that makes it; None for `full`.
        defaults: option values that differ from those of the factory.
        fixed: options that the method's name gives; nothing else comes before them.
    """

    factory: Callable[..., Any] | None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def make(self, options: Mapping[str, Any], whose: str) -> Any:
        """The scorer or allocator with those of the options that it takes. Raises `RequestError` where one is wrong."""
        return make(self.factory, {**self.defaults, **options, **self.fixed}, whose)

    @property
    def published(self) -> dict[str, Any]:
        """The values that its options have where nobody says otherwise."""
        own = {name: each.default for name, each in parameters(self.factory).items() if each.default is not each.empty}
        return {**published_of(self.factory), **own, **self.defaults}

    @property
    def observes(self) -> dict[str, int]:
        """The number of queries that it observes where nobody says another, as an option; empty without one."""
        return {name: value for name, value in self.published.items() if name == "observe"}

    @property
    def tried(self) -> dict[str, tuple[Any, ...]]:
        """What `cokv-bench tune` tries for its knobs, the value that it has otherwise first; see `Scorer`."""
        declared: Mapping[str, Sequence[Any]] = getattr(self.factory, "tried", {})
        return {
            knob: tuple(dict.fromkeys((self.defaults[knob], *values))) if knob in self.defaults else tuple(values)
            for knob, values in declared.items()
        }
