"""Where the budgets of methods like CoKV, CoKV-Search and HeadKV come from: head files, or what is embedded."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budget import Budget, PromptShare
from cokv_bench.budgets import HeadFile, embedded, load_head_file
from cokv_bench.budgets.fingerprint import check_same_model
from cokv_bench.budgets.head_file import MADE_BY, head_file_path
from cokv_bench.budgets.head_shares import WINDOW
from cokv_bench.budgets.hub import in_collection
from cokv_bench.budgets.knobs import Options, as_written
from cokv_bench.errors import RequestError
from cokv_bench.files import file_sha256
from cokv_bench.hub import fetch
from cokv_bench.models import Model
from cokv_bench.policies import find_method
from cokv_bench.policies.names import is_ceiling, parse
from cokv_bench.policies.registry import ranking_name
from cokv_bench.runs.heads import HeadSources


class HeadRule(Protocol):
    """From a budget to the tokens of each head."""

    def __call__(self, budget: int, *, window: int, knobs: Options) -> NDArray[np.int64]:
        """int64 [layers, kv_heads], window included; of the method's knobs it reads its own."""
        ...


@dataclass(frozen=True)
class StaticBudgets:
    """Budgets of one method.

    Attributes:
        tokens: the rule.
        description: what decides them, for a run's configuration.
        examples: ids of the examples that they were made from.
        tasks: names of the tasks of these examples.
        file: hash of the head file that the rule turns into budgets; empty where it has no knobs.
        ranking: window, kernel and pooling that they were made for, where they depend on it.
        documents: of these examples; empty where a file of an earlier version does not say.
    """

    tokens: HeadRule
    description: dict[str, Any]
    examples: tuple[str, ...]
    tasks: tuple[str, ...]
    ranking: Mapping[str, Any] = field(default_factory=dict)
    documents: tuple[str, ...] = ()
    file: str = ""


def refuse_unread(methods: Iterable[str], sources: HeadSources) -> None:
    """Refuse head files, and knobs of their rules, that no method of a run reads; no model is needed for that.

    Raises:
        RequestError: names the first such file or option, or a file that cannot be read.
    """
    every = [found for found in map(find_method, methods) if found.rule is not None]
    read = {knob for found in every for knob in found.rule_knobs}
    for knob, option in (("alpha", "--alpha"), ("beta", "--headkv-beta")):
        if sources.knobs.get(knob) is not None and knob not in read:
            raise RequestError(f"No method of this run reads {option}; leave it out, or add one that does.")
    for label, path in sources.files:
        readers = [found for found in every if found.file == label]
        rules = {found.rule for found in readers}
        if any(found.any_file for found in readers):
            continue
        file = load_head_file(path)
        if label is not None and not readers:
            raise RequestError(
                f"No method of this run names the head file '{label}'; name one with {file.method or 'METHOD'}:file="
                f"{label}, or leave out --heads {label}=..."
            )
        if not rules or (file.method is not None and file.method not in rules):
            whose = "a method that reads head files" if file.method is None else f"'{file.method}'"
            raise RequestError(
                f"No method of this run reads {path}, a {file.noun} for {whose}; leave it out, or add such a method."
            )


def static_budgets(
    method: str,
    model: Model,
    budgets: Sequence[Budget],
    tasks: Sequence[str],
    *,
    window: int | None,
    published_rounding: bool,
    sources: HeadSources,
    any_weights: bool = False,
) -> dict[str, StaticBudgets]:
    """Find the budgets of a method that reads head files, for a model and each task.

    Files of a single budget come first, then those that can be asked for any, then what is embedded. Of several files
    each serves the tasks that it was made from (CoKV profiles every task on its own); one alone serves all.

    Args:
        method: its name; options in it come before the other arguments.
        window: the one that is asked for, None for any.
        any_weights: files of any model of the same shape will do, as where only time and memory are measured.

    Raises:
        RequestError: nothing serves this model or a task, a file is of another model, shape, window or sum, or a budget
            that is asked for is in no file, as shares of the prompt never are in files of a single budget.
    """
    found = find_method(method)
    finder = _Finder(
        method=method,
        rule=str(found.rule),
        label=found.file,
        any_file=found.any_file,
        model=model,
        window=found.fixed.get("window", window),
        published_rounding=found.fixed.get("published_rounding", published_rounding),
        knobs={knob: value for knob, value in {**sources.knobs, **found.knobs}.items() if knob in found.rule_knobs},
        any_weights=any_weights,
    )
    files = [finder.checked(path, file) for path, file in finder.mine(sources)]
    single = [named for named in files if named[1].only_budget is not None]
    if single:
        return {task: finder.of_budgets(budgets, single, task) for task in tasks}
    made = [finder.of_file(*named) for named in files or [finder.embedded()]]
    return {task: _of_task(made, task, "head file") for task in tasks}


def _shared_options(file: str, wanted: str) -> int | None:
    """How many options a file's ranking has, if it is the one that is wanted or has fewer of its options."""
    own, asked = parse(file).ranking, parse(wanted).ranking
    return len(own.options) if own.name == asked.name and set(own.options) <= set(asked.options) else None


#: A head file with its path.
_Named = tuple[Path, HeadFile]


@dataclass(frozen=True)
class _Finder:
    """What is looked for: the arguments of `static_budgets`, with what the method's name says put in."""

    method: str
    rule: str
    label: str | None
    any_file: bool
    model: Model
    window: int | None
    published_rounding: bool
    knobs: Options
    any_weights: bool

    def mine(self, sources: HeadSources) -> list[_Named]:
        """The named files that serve the rule, or all of them where none does and any will do.

        Raises:
            RequestError: no file has the label that the method's name asks for.
        """
        paths = [head_file_path(path) for label, path in sources.files if label == self.label]
        if self.label is not None and not paths:
            raise RequestError(
                f"No head file is labelled '{self.label}', which '{self.method}' asks for; name one with --heads "
                f"{self.label}=FILE."
            )
        named = [(path, load_head_file(path)) for path in paths]
        mine = [(path, file) for path, file in named if file.method in (None, self.rule)]
        # Shares are tied to the ranking that they were searched with: a pair takes those of its own, where there are.
        if "+" in self.method:
            wanted = ranking_name(parse(self.method).ranking.text)
            fits = [_shared_options(file.ranking.get("scorer", WINDOW), wanted) for _, file in mine]
            best = max((each for each in fits if each is not None), default=None)
            mine = [each for each, fit in zip(mine, fits, strict=True) if fit == best]
        return mine or (named if self.any_file else [])

    def embedded(self) -> _Named:
        """The file that ships for the rule, or the user's collection has. Raises `RequestError` where there is none."""
        maker = MADE_BY.get(self.rule, "a rule of your own")
        if self.rule in embedded.SHIPPED:
            path = embedded.SHIPPED[self.rule]()
            file = load_head_file(path)
            try:
                return self.checked(path, file)
            except RequestError:
                maker = file.made_by
        if (found := in_collection(self.model.name, self.rule)) is not None:
            path = fetch(found)
            return self.checked(path, load_head_file(path))
        raise RequestError(
            f"No head budgets for '{self.method}' on '{self.model.name}' are at hand; make some with {maker}, and name "
            "the file or its folder with --heads."
        )

    def checked(self, path: Path, file: HeadFile) -> _Named:
        """A file that fits the model and the window. Raises `RequestError` for any other."""
        self._check_model(path, file)
        scorer = file.ranking.get("scorer", WINDOW)
        # A method without a ranking of its own would have the ceiling's, under a name that is told as a method's.
        if is_ceiling(scorer) and not is_ceiling(self.method) and parse(self.method).split is None:
            raise RequestError(
                f"The {file.noun} {path} was searched under '{scorer}', a ceiling; write {scorer}+{self.method}, which "
                f"tables mark as one, or a pair such as {WINDOW}+{self.method}."
            )
        if self.knobs and file.only_budget is not None:
            raise RequestError(
                f"The {file.noun} {path} has its tokens counted already, so {', '.join(self.knobs)} would change "
                f"nothing of '{self.method}'; leave it out, or name what the file was made from."
            )
        made_for = file.ranking.get("window")
        # Where tokens are not counted yet, they can be for any window.
        if file.only_budget is not None and self.window not in (None, made_for):
            raise RequestError(
                f"The {file.noun} {path} was made for a window of {made_for} tokens, and this run has {self.window}; "
                f"run with --window {made_for} or make the budgets again."
            )
        return path, file

    def _check_model(self, path: Path, file: HeadFile) -> None:
        shapes = [(each["layers"], each["kv_heads"]) for each in (file.model, self.model.fingerprint)]
        if not self.any_weights:
            check_same_model(file.model, self.model.fingerprint, f"The {file.noun} {path}")
        elif shapes[0] != shapes[1]:
            raise RequestError(
                f"The {file.noun} {path} is for {shapes[0][0]} layers x {shapes[0][1]} KV heads, but "
                f"'{self.model.name}' has {shapes[1][0]} x {shapes[1][1]}; name one of this shape."
            )

    def of_file(self, path: Path, file: HeadFile) -> StaticBudgets:
        """What a file says at any budget that it has."""
        sha256, asked, rounding = file_sha256(path), self.knobs, self.published_rounding

        # It travels to workers, so it must hold no model.
        def tokens(budget: int, *, window: int, knobs: Options) -> NDArray[np.int64]:
            return file.tokens_at(budget, window=window, published_rounding=rounding, knobs={**knobs, **asked})

        return StaticBudgets(
            tokens,
            {file.key: sha256, **as_written({knob: self.knobs.get(knob) for knob in file.knobs})},
            file.examples,
            file.tasks,
            file.ranking,
            file.documents,
            sha256 if file.knobs else "",
        )

    def of_budgets(self, budgets: Sequence[Budget], files: Sequence[_Named], task: str) -> StaticBudgets:
        """One file for each budget."""
        chosen: dict[int, StaticBudgets] = {}
        for budget in budgets:
            if isinstance(budget, PromptShare):
                path, file = files[0]
                raise RequestError(
                    f"The {file.noun} {path} is for {file.only_budget} tokens per head, which are {budget} of few "
                    "prompts; name head values, scores or shares with --heads, which serve any budget."
                )
            found = [self.of_file(path, file) for path, file in files if file.only_budget == budget]
            if not found:
                raise RequestError(
                    f"No budget file of '{self.method}' is for a budget of {budget}; there is "
                    f"{sorted({file.only_budget or 0 for _, file in files})}: make the missing one with "
                    f"{files[0][1].made_by}."
                )
            chosen[budget] = _of_task(found, task, f"budget file of {budget} tokens")
        rankings = [source.ranking for source in chosen.values()]
        if any(ranking != rankings[0] for ranking in rankings):
            raise RequestError(
                f"The budget files of '{self.method}' were made for several ways to rank tokens ({rankings}); name "
                "files of one search, or of one window."
            )
        key = files[0][1].key
        return StaticBudgets(
            lambda budget, *, window, knobs: chosen[budget].tokens(budget, window=window, knobs=knobs),
            {key: {str(budget): source.description[key] for budget, source in chosen.items()}},
            tuple(dict.fromkeys(example for source in chosen.values() for example in source.examples)),
            tuple(dict.fromkeys(name for source in chosen.values() for name in source.tasks)),
            rankings[0],
            tuple(dict.fromkeys(document for source in chosen.values() for document in source.documents)),
        )


def _of_task(found: list[StaticBudgets], task: str, what: str) -> StaticBudgets:
    """The only source, or of several the one that was made from the task."""
    fitting = found if len(found) == 1 else [source for source in found if task in source.tasks]
    if len(fitting) != 1:
        known = sorted({name for source in found for name in source.tasks})
        said = f"{len(fitting)} of the {len(found)} are" if fitting else f"none of the {len(found)} is"
        raise RequestError(
            f"Several sources were given, and for each task one {what} must be made from it: for '{task}' {said} "
            f"(they are of {', '.join(known)}); name one with --heads, or one alone for all tasks."
        )
    return fitting[0]
