"""What a run found, in a few plain sentences: for the terminal after a run, and for the top of a report.

Every sentence is made from the tables of the run, so it says what was found, also where that is nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cokv_bench.budget import Budget, PromptShare
from cokv_bench.policies.names import FULL
from cokv_bench.report.grids import budget_phrase, decimal, p_phrase
from cokv_bench.scores.comparisons import PRIMARY
from cokv_bench.scores.means import groups, is_mean
from cokv_bench.scores.power import observed
from cokv_bench.scores.units import PERCENT, Unit
from cokv_bench.tasks.registry import family_of

#: Metric of tasks whose answers are right or wrong, so that right ones can be counted.
_FOUND = "found"
#: Stored scores have four decimals.
_ROUNDING = 0.01
#: So many methods are named one by one.
_NAMED = 4


def summary(tables: Mapping[str, pd.DataFrame], configuration: Mapping[str, Any], unit: Unit = PERCENT) -> list[str]:
    """A few sentences about a run: the best method of each benchmark against the baseline, and what could be shown.

    A benchmark is its mean over tasks or its only task. Its best method is the one with the largest difference from
    the first baseline in the primary test. Scores are told at the smallest budget, where methods differ most;
    whether a difference is significant is told of the primary test.

    Args:
        tables: of a run, by file name, as `lay_out` takes them.
        configuration: of the run.
        unit: of its numbers.

    Returns:
        Sentences to print one after the other; none where the run compares no methods.
    """
    compared = tables.get("comparisons.csv", pd.DataFrame())
    if compared.empty:
        return []
    compared = compared[compared["baseline"] == compared["baseline"].iloc[0]]
    tests = compared[compared["family"] == PRIMARY]
    wholes = [str(task) for task in tests["task"].unique()]
    told = [_Benchmark(whole, tests[tests["task"] == whole], tables, configuration, unit) for whole in wholes]
    sentences = [sentence for each in told for sentence in each.sentences()]
    return [*sentences, *_missed(compared, [each for each in told if each.undecided], unit)]


@dataclass(frozen=True)
class _Benchmark:
    """What the run says about one benchmark.

    Attributes:
        task: the row in tables that stands for it.
        tests: its primary tests against one baseline.
    """

    task: str
    tests: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    configuration: Mapping[str, Any]
    unit: Unit

    def sentences(self) -> Iterator[str]:
        known = self.tests[self.tests["difference"].notna()]
        if known.empty:
            yield (
                f"On {self.name} the methods kept different totals at {_listed(self._unequal)}, so they are not "
                f"compared {'there' if self.tests['budget'].notna().all() else 'there, nor over the budgets'}."
            )
            return
        if not known["discriminates"].any():
            yield (
                f"On {self.name} this run cannot tell methods apart: there are too few examples, or the full cache "
                "does not score above chance."
            )
            return
        best = known.iloc[int(known["difference"].to_numpy(float).argmax())]
        if best["difference"] > 0:
            yield f"{self._scores(str(best['method']))}; {self._verdict(best)}."
        else:
            yield f"{self._scores(self.baseline)}; no other method does better."
        others = known[(known["method"] != best["method"]) | (best["difference"] <= 0)]
        yield from self._others(others)

    @property
    def _unequal(self) -> list[str]:
        """The budgets at which some method is not compared, in words."""
        every = self.tables["comparisons.csv"]
        mine = every[(every["task"] == self.task) & (every["baseline"] == self.baseline)]
        budgets = mine.loc[mine["difference"].isna() & mine["budget"].notna(), "budget"]
        return [budget_phrase(budget) for budget in sorted(budgets.unique())]

    @property
    def baseline(self) -> str:
        return str(self.tests["baseline"].iloc[0])

    @property
    def undecided(self) -> bool:
        """Whether a difference may have been missed."""
        return bool((self.tests["within_noise"] & self.tests["discriminates"]).fillna(value=False).any())

    @property
    def name(self) -> str:
        """The benchmark in the middle of a sentence."""
        if is_mean(self.task):
            # A run that was stopped has tables of the tasks that it began, and their means are over these.
            tasks = groups(task for task in self.tables["scores.csv"]["task"].unique() if not is_mean(task))[self.task]
            return f"the {len(tasks)} tasks of {family_of(tasks[0]).mean(tasks[0]).removesuffix(' mean')}"
        return family_of(self.task).examples or self.task

    def _scores(self, method: str) -> str:
        """What a method, the baseline and the full cache score at the smallest budget that the two were compared at."""
        scores = self.tables["scores.csv"]
        scores = scores[scores["task"] == self.task]
        budget = min(self._compared(None if method == self.baseline else method)["budget"])
        at = scores[scores["budget"] == budget]
        row, other = (at[at["method"] == each].iloc[0] for each in (method, self.baseline))
        values = [f"{method} {self._verb} {self._value(row)}{self._of(row)}"]
        values += [f"{self.baseline} {self._value(other)}"] if method != self.baseline else []
        full = scores[scores["method"] == FULL]
        values += [f"the full cache {self._value(full.iloc[0])}"] if len(full) else []
        start = values[0] if len(values) == 1 else f"{', '.join(values[:-1])} and {values[-1]}"
        place = "" if self._counts else f" on {self.name}"
        return f"At {_kept(budget, row)}{place}, {start}"

    @property
    def _counts(self) -> bool:
        """Whether right answers are counted."""
        told = self.configuration["tasks"].get(self.task, {})
        scores = self.tables["scores.csv"]
        scores = scores[scores["task"] == self.task]
        # Of several questions about one context an example has their mean, which is no count.
        right = scores["score"] * scores["n"] / 100
        whole = scores["n"].nunique() == 1 and bool(((right - right.round()).abs() < _ROUNDING).all())
        return self.unit is PERCENT and told.get("metric") == _FOUND and whole

    @property
    def _verb(self) -> str:
        return "finds" if self._counts else "scores" if self.unit is PERCENT else "reaches"

    def _value(self, row: "pd.Series[Any]") -> str:
        if self._counts:
            return f"{row['score'] * row['n'] / 100:.0f}"
        value = decimal(row["score"], self.unit.decimals)
        return f"{value}%" if self.unit is PERCENT else f"{value} {self.unit.short}"

    def _of(self, row: "pd.Series[Any]") -> str:
        what = f"answers of {self.name}" if self.name == self.task else self.name
        return f" of {row['n']} {what}" if self._counts else ""

    def _verdict(self, test: "pd.Series[Any]") -> str:
        """Of the primary test of a method that is above the baseline."""
        verdict = f"{'not ' if test['within_noise'] else ''}significant (corrected {p_phrase(test['p_adjusted'])})"
        if pd.notna(test["budget"]):
            return f"the difference from {self.baseline} is {verdict}"
        budgets = self._compared(str(test["method"]))["budget"].nunique()
        over = "both budgets" if budgets == 2 else f"the {budgets} budgets"
        gained = decimal(test["difference"], self.unit.decimals)
        return f"over {over} it is {gained} {self.unit.gain} above {self.baseline}, and the difference is {verdict}"

    def _compared(self, method: str | None) -> pd.DataFrame:
        """The comparisons at single budgets of a method, or of any where none is given."""
        every = self.tables["comparisons.csv"]
        same = (every["task"] == self.task) & (every["baseline"] == self.baseline)
        if method is not None:
            same &= every["method"] == method
        return every[same & every["budget"].notna() & every["difference"].notna()]

    def _others(self, tests: pd.DataFrame) -> Iterator[str]:
        """Which other methods are significantly better or worse than the baseline; nothing where none is."""
        different = tests[~tests["within_noise"].astype(bool)]
        better, worse = (
            [str(name) for name in different.loc[different["difference"] * sign > 0, "method"]] for sign in (1, -1)
        )
        parts = [
            f"{_few(names)} {'is' if len(names) == 1 else 'are'} significantly {word}"
            for names, word in ((better, "better"), (worse, "worse"))
            if names
        ]
        if parts:
            yield f"On {self.name}, {' and '.join(parts)} than {self.baseline}."


def _missed(compared: pd.DataFrame, undecided: list[_Benchmark], unit: Unit) -> Iterator[str]:
    """How large a difference must be for the run to find it, where some were not significant."""
    least = {each.task: each.difference for each in observed(compared)}
    sizes = [
        f"about {least[each.task]:.{unit.decimals - 1}f} {unit.gain} on {each.name}"
        for each in undecided
        if pd.notna(least.get(each.task))
    ]
    if sizes:
        yield (
            "A difference that is not significant may still be there: this run finds differences from "
            f"{_listed(sizes)}."
        )


def _kept(budget: Budget, row: "pd.Series[Any]") -> str:
    """A budget in words, with the share of the prompt that it is where that is known."""
    share = "" if isinstance(budget, PromptShare) or "prompt_tokens" not in row else _share(row)
    return budget_phrase(budget) + share


def _share(row: "pd.Series[Any]") -> str:
    return f" ({row['kept_per_head'] / row['prompt_tokens']:.0%} of the prompt)"


def _few(methods: list[str]) -> str:
    """Methods by name, or how many they are."""
    return _listed(methods) if len(methods) <= _NAMED else f"{len(methods)} methods"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
