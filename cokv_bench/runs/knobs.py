"""Which settings the methods of a run have: chosen on profile examples, or as published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from types import MappingProxyType
from typing import Any

from cokv_bench.budget import Budget, tokens_of
from cokv_bench.budgets import embedded
from cokv_bench.budgets.fingerprint import check_same_model
from cokv_bench.budgets.knobs import Knobs, Options, Tuning, as_written
from cokv_bench.errors import RequestError
from cokv_bench.models import Model
from cokv_bench.policies import find_method
from cokv_bench.runs.grid import PAPERS, TUNED
from cokv_bench.runs.overlap import Seen
from cokv_bench.runs.sources import StaticBudgets
from cokv_bench.tasks.registry import family_of


@dataclass(frozen=True)
class ChosenKnobs:
    """The knobs of a run; without a file every method has its published ones.

    Attributes:
        window, sinks: those that the run asks for, None for each method's own.
    """

    file: Knobs | None = None
    window: int | None = None
    sinks: int | None = None

    def options(
        self,
        method: str,
        task: str,
        budget: Budget | None,
        budgets: StaticBudgets | None = None,
        lengths: Sequence[int] = (),
    ) -> Options:
        """What was chosen for a method on a task at a budget; empty for the published settings.

        A method whose name gives options has what was chosen for that name, else what was chosen for its base, as far
        as the name leaves it open.

        Args:
            budget: None where the method has none. For a share of the prompt what was chosen for the tokens that it is
                of the median prompt, with a window that is below the share of all prompts.
            budgets: of a method that has head budgets. Made for one window, they have the best settings with that.
            lengths: tokens of the task's prompts, rising; of no use where the budget is in tokens.
        """
        benchmark = family_of(task).knobs(task)
        if self.file is None or budget is None or benchmark not in self.file.benchmarks:
            return {}
        found, curves = find_method(method), self.file.benchmarks[benchmark].curves
        name = next((name for name in found.name.known_as if name in curves), None)
        if name is None:
            return {}
        made_for = None if budgets is None else budgets.ranking.get("window")
        window = found.fixed.get("window", made_for if self.window is None else self.window)
        heads = None if budgets is None else budgets.file
        middle, shortest = (median_low(lengths), lengths[0]) if lengths else (0, 0)
        tokens, least = tokens_of(budget, middle), tokens_of(budget, shortest)
        # Of no prompts, or a share that comes to nothing: the run is refused in any case.
        if tokens == 0:
            return {}
        # What has no window to try, such as StreamingLLM or a name that gives one, was tried with the one that it has.
        windowed = "window" in find_method(name).tried
        sinks = found.fixed.get("sinks", self.sinks)
        chosen = self.file.chosen(name, benchmark, tokens, window, heads, least, windowed=windowed, sinks=sinks)
        open_ = {*found.options, *found.rule_knobs} - set(found.fixed)
        return {knob: value for knob, value in chosen.items() if knob in open_}

    @property
    def tasks(self) -> set[str]:
        """Names of the tasks that the choice was made on."""
        return {task for tuning in self._tunings for task in tuning.tasks}

    @property
    def seen(self) -> Seen:
        """What the choice was made on, for the check that none of it is evaluated."""
        return Seen(
            frozenset(example for tuning in self._tunings for example in tuning.examples),
            frozenset(document for tuning in self._tunings for document in tuning.documents),
        )

    @property
    def _tunings(self) -> list[Tuning]:
        return [] if self.file is None else list(self.file.benchmarks.values())

    def description(
        self,
        tasks: Sequence[str],
        budgets: Sequence[Budget],
        static: Mapping[str, Mapping[str, StaticBudgets] | None],
        lengths: Mapping[str, Sequence[int]] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """For a run's configuration: the options by benchmark, method and budget; empty without a file.

        They alone decide a result. A file that gains another benchmark leaves the runs that it served as they are.

        Args:
            static: by method, in any order: its head budgets by task, None where it has none.
            lengths: of the prompts by task, as for `options`.
        """
        if self.file is None:
            return {}

        def of(method: str, task: str) -> dict[str, Options]:
            mine = (static[method] or {}).get(task)
            options = {each: self.options(method, task, each, mine, lengths.get(task, ())) for each in sorted(budgets)}
            return {str(budget): as_written(chosen) for budget, chosen in options.items()}

        chosen: dict[str, dict[str, Any]] = {}
        for benchmark in sorted({family_of(task).knobs(task) for task in tasks}):
            mine = [task for task in tasks if family_of(task).knobs(task) == benchmark]
            for method in sorted(static):
                found = [of(method, task) for task in mine]
                # Head files of several tasks may have been made for several windows.
                named = (
                    {benchmark: found[0]}
                    if all(each == found[0] for each in found)
                    else dict(zip(mine, found, strict=True))
                )
                for name, options in named.items():
                    if any(options.values()):
                        chosen.setdefault(name, {})[method] = options
                    else:
                        chosen.setdefault(name, {})
        return {"knobs": {"chosen": chosen}}


def find_knobs(
    wanted: str, model: Model, window: int | None, question_agnostic: bool, split: str, sinks: int | None = None
) -> ChosenKnobs:
    """The knobs that a run asks for.

    Args:
        wanted: "tuned" takes the embedded choice where it was made for this model, window and kind of prompt, and else
            the published settings; "papers" takes those always; anything else is a file.
        window, sinks: those that the run asks for, None for each method's own.
        split: of the run. On the profile split, where the choice was made, "tuned" means the published settings.

    Raises:
        RequestError: the file cannot be used with this model, window or kind of prompt.
    """
    if wanted == PAPERS or (wanted == TUNED and split in ("profile", "all")):
        return ChosenKnobs()
    path = embedded.knobs_path() if wanted == TUNED else Path(wanted).expanduser()
    file = Knobs.load(path)
    try:
        _check_fits(file, path, model, window, question_agnostic)
    except RequestError:
        if wanted == TUNED:
            return ChosenKnobs()
        raise
    return ChosenKnobs(file, window, sinks)


def _check_fits(file: Knobs, path: Path, model: Model, window: int | None, question_agnostic: bool) -> None:
    check_same_model(file.model, model.fingerprint, f"The knobs {path}")
    anew = "choose them for it with `cokv-bench tune`, or take the published ones with --knobs papers."
    if file.question_agnostic != question_agnostic:
        hidden = {True: "hidden", False: "known"}
        raise RequestError(
            f"The knobs {path} were chosen with the question {hidden[file.question_agnostic]} while prompts are "
            f"compressed, and in this run it is {hidden[question_agnostic]}; {anew}"
        )
    if window is not None and window not in file.windows:
        tried = ", ".join(map(str, sorted(file.windows)))
        raise RequestError(
            f"The knobs {path} were chosen among windows of {tried} tokens, but this run has {window}; {anew}"
        )
