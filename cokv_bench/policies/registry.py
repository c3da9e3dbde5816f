"""The methods by name: which scorer and which allocator each one combines, and the options that its name gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from types import MappingProxyType
from typing import Any

from cokv_bench.budgets.head_file import RULE_KNOBS
from cokv_bench.budgets.rules import Knob
from cokv_bench.errors import RequestError
from cokv_bench.policies.allocators import ByScores, ByShares, ByValues, EmbeddedBudgets, Uniform
from cokv_bench.policies.halves import OF_ALL, Half, Recipe
from cokv_bench.policies.names import MethodName, Part, check, check_ranking, parse
from cokv_bench.policies.options import parameters, read, written
from cokv_bench.policies.policy import Allocator, Policy, Scorer, needs_of
from cokv_bench.registries import ALLOCATORS, CEILING, SCORERS
from cokv_bench.registries import METHODS as POLICIES
from cokv_bench.registry import Registry

#: The split of a ranking that is named alone.
_EVENLY = "uniform"
#: The option of methods that read head files which says which one.
_FILE = "file"


@dataclass(frozen=True)
class Method:
    """What a name stands for: a method of the registry or a pair, with the options that the name gives.

    Attributes:
        knobs: those of its head file's rule that the name gives, such as alpha.
    """

    name: MethodName
    description: str
    scorer: Half
    allocator: Half
    knobs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> list[str]:
        """Names of the options it takes, sorted. All take published_rounding: one switch serves a comparison."""
        window = [] if self.scorer.factory is None else [*OF_ALL]
        halves = (*parameters(self.scorer.factory), *parameters(self.allocator.factory))
        return sorted({*halves, *window, "published_rounding"})

    @property
    def rule(self) -> str | None:
        """The rule whose head files the allocator reads, such as "cokv"; None where it reads none."""
        return getattr(self.allocator.factory, "rule", None)

    @property
    def file(self) -> str | None:
        """The label of its head file that the name gives; None where it gives none."""
        return None if self.rule is None else dict((self.name.split or self.name.ranking).options).get(_FILE)

    @property
    def any_file(self) -> bool:
        """Whether head files of every rule serve it, where none of its own is named."""
        return getattr(self.allocator.factory, "any_file", False)

    @property
    def rule_knobs(self) -> Mapping[str, Knob]:
        """The knobs of that rule, which head files take."""
        return {} if self.rule is None else RULE_KNOBS.get(self.rule, {})

    @property
    def fixed(self) -> dict[str, Any]:
        """All options that the name gives."""
        return {**self.scorer.fixed, **self.allocator.fixed, **self.knobs}

    @property
    def tried(self) -> dict[str, tuple[Any, ...]]:
        """What `cokv-bench tune` tries for each knob that the name leaves open, the published setting first."""
        rule = {name: knob.tried for name, knob in self.rule_knobs.items()}
        every = {**self.scorer.tried, **rule, **self.allocator.tried}
        return {knob: values for knob, values in every.items() if values and knob not in self.fixed}

    @property
    def needs(self) -> frozenset[str]:
        """The signals that prompts have to be prefilled with, such as "accumulated_attention"."""
        return needs_of(self.scorer.factory)

    @property
    def needs_accumulated_attention(self) -> bool:
        """Whether prompts have to be prefilled with accumulated_attention=True."""
        return "accumulated_attention" in self.needs

    def with_ranking(self, name: str) -> "Method":
        """The same method with the ranking of that name, such as "damage:kernel=11". Raises `RequestError` for none."""
        other = find_method(replace(parse(name), split=Part(_EVENLY)).text)
        return replace(self, scorer=replace(other.scorer, fixed={**other.scorer.fixed, **self.scorer.fixed}))

    def ranking_of(self, file: Mapping[str, Any]) -> dict[str, Any]:
        """Window, first tokens, kernel, pooling and scorer that a head file was made for, as far as a method has them.

        Args:
            file: `ranking` of the head file. Where that ranking does not pool, its kernel and pooling say nothing; a
                split that takes files of every rule takes nothing but the order of the heads.
        """
        if self.any_file or "scorer" not in file:
            return {} if self.any_file else dict(file)
        has = find_method(f"{file['scorer']}+{_EVENLY}").options
        return {name: value for name, value in file.items() if name in ("scorer", *has)}

    def policy(self, **options: Any) -> Policy:
        """The policy with these options; those that the name gives come first.

        Raises:
            RequestError: an option that it does not take or with a value it cannot have.
        """
        for option in options:
            if option not in self.options:
                raise RequestError(
                    f"Method '{self.name.text}' takes no option '{option}'; it takes {', '.join(self.options)}."
                )
        method, given = self, options
        if self.rule is not None and not {"budgets"} & {*options, *self.allocator.defaults}:
            budgets = EmbeddedBudgets(self.rule, tuple(self.knobs.items()))
            made_for = self.ranking_of(budgets.ranking)
            scorer = made_for.pop("scorer", None)
            # What ships was made for a ranking, and a method without one of its own has that.
            method = self if scorer is None or self.name.split is not None else self.with_ranking(scorer)
            taken = {name: value for name, value in made_for.items() if name in method.options}
            given = {**taken, **options, "budgets": budgets}
        return method._with(given)

    def _with(self, given: Mapping[str, Any]) -> Policy:
        split = self.name.split or self.name.ranking
        halves = self.scorer.make(given, self.name.ranking.name), self.allocator.make(given, split.name)
        said = self._said(given)
        observed = {name: said.get(name) for name in ("window", "observe")}
        return Policy(self.name.text, self.description, *halves, sinks=self.protected(given), **observed)

    def protected(self, options: Mapping[str, Any]) -> int:
        """How many of the first tokens every head keeps, with these options of `policy`."""
        # Where all heads keep as many, a ranking that puts them first keeps them as long as they fit.
        if getattr(self.scorer.factory, "sinks_first", False) and self.allocator.factory is Uniform:
            return 0
        protects: int = getattr(self.allocator.factory, "protects", 0)
        return self._said(options).get("sinks", protects) or 0

    def _said(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of the scorer and those of all methods, those that the name gives first."""
        return {**self.scorer.defaults, **options, **self.scorer.fixed}


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
        RequestError: the name is taken, one half is missing, or neither takes a default.
    """
    if (scorer is None) != (allocator is None):
        raise RequestError(f"Method '{name}' needs both a scorer and an allocator.")
    takes = {*parameters(scorer), *parameters(allocator), *OF_ALL, "published_rounding"}
    for option in sorted(defaults.keys() - takes):
        raise RequestError(f"Method '{name}' takes no option '{option}'; its halves take {', '.join(sorted(takes))}.")
    mark = CEILING if getattr(scorer, "ceiling", False) else ""
    POLICIES.add(name, description, Recipe(description, scorer, allocator, defaults), mark)


def get_policy(name: str, **options: Any) -> Policy:
    """The policy of that name.

    Args:
        name: one of `POLICIES`, with or without options ("snapkv:kernel=11"), or a pair of a scorer and an allocator
            ("window+adaptive"), see docs/methods.md. An option of the name comes before one of the keywords.
        options: by method, kernel and pooling (window attention), safeguard (Ada-KV), beta (pyramids), seed (random),
            budgets (HeadKV, CoKV and CoKV-Search: a function from a budget to int [layers, kv_heads], window included);
            for all, sinks (first tokens that every head keeps), window (last tokens that every head keeps, at most
            that of the prompts; default theirs), observe (last queries that rank; default the window's) and
            published_rounding.

    Raises:
        RequestError: no such method, an option that it does not take or with a value it cannot have.
    """
    method, budgets = find_method(name), options.get("budgets")
    if method.file is not None and budgets is None:
        raise RequestError(
            f"'{name}' names a head file by the label '{method.file}', which commands know (--heads "
            f"{method.file}=FILE); in Python give budgets=load_head_file(FILE).tokens_at."
        )
    if method.knobs and budgets is not None:
        if "knobs" not in parameters(budgets):
            raise RequestError(
                f"'{name}' says {', '.join(method.knobs)}, which the function that is given as budgets does not take; "
                "give one with a parameter knobs, such as load_head_file(FILE).tokens_at, or leave the option out."
            )
        options["budgets"] = _with_knobs(budgets, method.knobs)
    return method.policy(**options)


def _with_knobs(budgets: Callable[..., Any], knobs: Mapping[str, Any]) -> Callable[..., Any]:
    """The function with knobs that come before those that it is told, such as the length of the prompt."""

    @wraps(budgets)
    def told(*args: Any, **more: Any) -> Any:
        return budgets(*args, **{**more, "knobs": {**more.get("knobs", {}), **knobs}})

    return told


def ranking_policy(name: str, **options: Any) -> Policy:
    """A ranking alone, with equal shares, for what only asks how tokens are ranked.

    Where nobody says how many queries it observes, it observes as many as its scorer has published, as in a run.

    Args:
        name: of a scorer, or of a method for the sake of its scorer, with or without options.
        options: those that it takes and its name does not give; others are left out.

    Raises:
        RequestError: no such ranking, it has a split, or it evicts nothing.
    """
    method = _alone(name)
    given = {**method.scorer.observes, **options}
    return method.policy(**{option: value for option, value in given.items() if option in method.options})


def ranking_name(name: str) -> str:
    """A ranking's name that says how many queries it observes, where its scorer has a published number of them.

    Raises:
        RequestError: no such ranking, it has a split, or it evicts nothing.
    """
    method = _alone(name)
    ranking = method.name.ranking
    observes = {name: str(value) for name, value in method.scorer.observes.items()}
    if not observes:
        return ranking.text
    options = {**observes, **dict(ranking.options)}
    return Part(ranking.name, tuple(sorted(options.items()))).text


def _alone(name: str) -> Method:
    """A ranking with equal shares. Raises `RequestError` for what is no ranking alone."""
    check_ranking(name)
    return find_method(replace(parse(name), split=Part(_EVENLY)).text)


def find_method(name: str) -> Method:
    """What a method's name stands for.

    Args:
        name: see `cokv_bench.policies.names`.

    Raises:
        RequestError: no such method, ranking or split, or an option that it does not take.
    """
    check(name)
    found = parse(name)
    if found.split is None and found.ranking.name in POLICIES:
        return _single(found)
    left, right = found.ranking, found.split or Part(_EVENLY)
    ranking, split = _half(left, SCORERS, "scorer"), _half(right, ALLOCATORS, "allocator")
    scorer = replace(ranking, fixed=read(dict(left.options), {**OF_ALL, **written(ranking.factory)}, left.name))
    pair = Method(found, f"{_line(left, SCORERS)}; {_line(right, ALLOCATORS)}", scorer, split)
    fixed, knobs = _read_split(right, pair)
    return replace(pair, allocator=replace(split, fixed=fixed), knobs=knobs)


def _single(name: MethodName) -> Method:
    recipe = POLICIES.get(name.ranking.name)
    halves = Half(recipe.scorer, recipe.defaults), Half(recipe.allocator, recipe.defaults)
    method = Method(name, recipe.description, *halves)
    of_all = {} if recipe.scorer is None else OF_ALL
    fixed, knobs = _read_split(name.ranking, method, {**of_all, **written(recipe.scorer)})
    return replace(
        method, scorer=replace(halves[0], fixed=fixed), allocator=replace(halves[1], fixed=fixed), knobs=knobs
    )


def _read_split(
    part: Part, method: Method, others: Mapping[str, Any] = MappingProxyType({})
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that a part gives the allocator, and those for its head file's rule.

    Args:
        others: further options that the part may have, with what their texts are read as.
    """
    of_rule = {name: knob.kind for name, knob in method.rule_knobs.items()}
    kinds = {**others, **written(method.allocator.factory)}
    label: dict[str, Any] = {} if method.rule is None else {_FILE: str}
    values = read(dict(part.options), {**label, **of_rule, **kinds}, part.name)
    for name in of_rule:
        if values.get(name, 1) < 1:
            raise RequestError(f"The option '{name}' of '{part.name}' must be at least 1, not {values[name]}.")
    knobs = {name: value for name, value in values.items() if name in of_rule}
    return {name: value for name, value in values.items() if name in kinds}, knobs


def _half(part: Part, halves: Registry[Any], side: str) -> Half:
    """The scorer or allocator of a name: its own entry, or what the method of that name has."""
    if part.name in halves:
        return Half(halves.get(part.name))
    recipe = POLICIES.get(part.name)
    return Half(getattr(recipe, side), recipe.defaults)


def _line(part: Part, halves: Registry[Any]) -> str:
    return halves.line(part.name) if part.name in halves else f"as {part.name}"


def _recipe(name: str, scorer: str, allocator: str) -> Recipe:
    return Recipe(POLICIES.line(name), SCORERS.get(scorer), ALLOCATORS.get(allocator))


def _by_file(name: str, allocator: Callable[..., Allocator]) -> Recipe:
    return Recipe(POLICIES.line(name), SCORERS.get("window"), allocator)


FULL = Recipe(POLICIES.line("full"), None, None)
STREAMING_LLM = _recipe("streaming-llm", "sinks-recent", "uniform")
H2O = _recipe("h2o", "accumulated", "uniform")
SNAPKV = _recipe("snapkv", "window", "uniform")
PYRAMIDKV = _recipe("pyramidkv", "window", "pyramid")
ADA_SNAPKV = _recipe("ada-snapkv", "window", "adaptive")
ADA_PYRAMID = _recipe("ada-pyramid", "window", "ada-pyramid")
HEADKV = _by_file("headkv", ByScores)
COKV = _by_file("cokv", ByValues)
COKV_SEARCH = _by_file("cokv-search", ByShares)
RANDOM = _recipe("random", "random", "uniform")
CRITICAL_ADA = _recipe("critical-ada", "critical", "adaptive")
CAKE = _recipe("cake", "cake", "cake")
LAVA = _recipe("lava", "lava", "lava")
