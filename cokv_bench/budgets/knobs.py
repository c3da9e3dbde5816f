"""The file of chosen knobs: the settings of each method that served best on profile examples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cokv_bench.budgets.checked_json import Document, is_finite, is_integer, is_kernel, is_pooling
from cokv_bench.budgets.curves import nearest_budget
from cokv_bench.budgets.head_file import RULE_KNOBS
from cokv_bench.errors import RequestError
from cokv_bench.files import write_json

KIND = "knobs"
SCHEMA = 1

#: Knobs of the rules that turn a head file into budgets: CoKV's alpha and HeadKV's beta.
OF_RULES = frozenset(knob for knobs in RULE_KNOBS.values() for knob in knobs)
#: Options of a method by name; numbers and texts.
Options = Mapping[str, Any]
# What knobs are called in files, where that is not their name.
_WRITTEN = {"alpha": "zeroed"}
_READ = {name: knob for knob, name in _WRITTEN.items()}


def as_written(options: Options) -> dict[str, Any]:
    """Options as files have them: knobs.json, and the configuration of a run."""
    return {_WRITTEN.get(name, name): value for name, value in options.items()}


def as_read(options: Options) -> dict[str, Any]:
    """The same backwards."""
    return {_READ.get(name, name): value for name, value in options.items()}


@dataclass(frozen=True)
class Tried:
    """A setting and the mean utility that it had on the profile examples."""

    options: Options
    utility: float


#: Method -> budget -> what was tried, the published setting first.
Curves = Mapping[str, Mapping[int, Sequence[Tried]]]


@dataclass(frozen=True)
class Tuning:
    """What was tried on the profile split of one benchmark.

    Attributes:
        tasks: names of its tasks.
        examples: ids of the profile examples; no evaluation may use them.
        documents: hashes of the texts that these are about.
        utility: name of what decided.
        curves: see `Curves`.
        heads: hashes of the head files that alpha and beta were tried with, by method.
        settings: what else decides the utilities: the window that was asked for, `max_length`, `reading`, and version,
            rules and contents of each task. Empty in earlier files, which do not say.
    """

    tasks: tuple[str, ...]
    examples: tuple[str, ...]
    documents: tuple[str, ...]
    utility: str
    curves: Curves
    heads: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def chosen(self, method: str, budget: int, fits: Callable[[Options], bool] = lambda options: True) -> Options:
        """The best setting at the nearest budget that was tried, of equal ones the first; empty where there is none.

        Args:
            fits: settings for which it is false are left out.
        """
        if method not in self.curves:
            return {}
        tried = self.curves[method][nearest_budget(self.curves[method], budget)]
        fitting = [each for each in tried if fits(each.options)]
        return max(fitting, key=lambda each: each.utility).options if fitting else {}


@dataclass(frozen=True)
class Knobs:
    """Knobs of the methods for one model, chosen by benchmark, method and budget.

    Attributes:
        model: fingerprint of the model.
        window: observation window of the settings that name none.
        question_agnostic: whether the question was hidden while prompts were compressed.
        benchmarks: by benchmark, such as "needle" or "longbench".
    """

    model: Mapping[str, Any]
    window: int
    question_agnostic: bool
    benchmarks: Mapping[str, Tuning]

    def chosen(
        self,
        method: str,
        benchmark: str,
        budget: int,
        window: int | None = None,
        heads: str | None = None,
        least: int | None = None,
        *,
        windowed: bool = True,
        sinks: int | None = None,
    ) -> Options:
        """The method's setting for the tasks of a benchmark at a budget; empty where the benchmark was not tried.

        Args:
            window: the only one that is wanted; None for any that leaves something below `least`.
            heads: hash of the head file that the method's budgets come from; with another one than was tried, alpha and
                beta are left to that file. None where the method has none.
            least: what the budget may come down to, where it is a share of prompts; default the budget.
            windowed: whether windows were tried for the method; without them its settings serve any window.
            sinks: first tokens that every head keeps beside the window; None for those of each setting.
        """
        tuning = self.benchmarks.get(benchmark)
        if tuning is None:
            return {}
        other = heads is not None and heads != tuning.heads.get(method)

        def fits(options: Options) -> bool:
            if other and not OF_RULES.isdisjoint(options):
                return False
            if not windowed:
                return True
            own = options.get("window", self.window)
            if window is not None:
                return bool(own == window)
            protected = options.get("sinks", 0) if sinks is None else sinks
            return bool(own + protected < (budget if least is None else least))

        return tuning.chosen(method, budget, fits)

    @property
    def windows(self) -> set[int]:
        """Observation windows that were tried."""
        every = [
            tried for tuning in self.benchmarks.values() for curve in tuning.curves.values() for tried in curve.values()
        ]
        return {self.window, *(each.options["window"] for tried in every for each in tried if "window" in each.options)}

    def save(self, path: str | Path) -> None:
        """Write the file in one step."""
        write_json(
            path,
            {
                "kind": KIND,
                "schema": SCHEMA,
                "model": dict(self.model),
                "window": self.window,
                "question_agnostic": self.question_agnostic,
                "benchmarks": {name: _written(tuning) for name, tuning in self.benchmarks.items()},
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> "Knobs":
        """Read and check a file of knobs.

        Raises:
            RequestError: no such file, not our JSON, or a field of another type; one sentence that names the file.
        """
        document = Document(path, KIND, SCHEMA)
        model = document.model()
        benchmarks = document.mapping("benchmarks")
        return cls(
            model,
            document.integer("window"),
            document.data.get("question_agnostic") is True,
            {name: _tuning(document, name, content) for name, content in benchmarks.items()},
        )


def _written(tuning: Tuning) -> dict[str, Any]:
    return {
        "tasks": list(tuning.tasks),
        "examples": list(tuning.examples),
        "documents": list(tuning.documents),
        "utility": tuning.utility,
        "heads": dict(tuning.heads),
        **({"settings": dict(tuning.settings)} if tuning.settings else {}),
        "curves": {
            method: {
                str(budget): [{"options": as_written(each.options), "utility": each.utility} for each in tried]
                for budget, tried in curves.items()
            }
            for method, curves in tuning.curves.items()
        },
    }


def _tuning(document: Document, name: str, content: Any) -> Tuning:
    def refuse() -> RequestError:
        return RequestError(
            f"{document.path}: the benchmark {name!r:.40} must hold tasks, examples, documents, utility and curves "
            "(method, budget, a list of options with a utility); write the file with `cokv-bench tune`."
        )

    if not isinstance(content, dict):
        raise refuse()
    texts = [content.get(key) for key in ("tasks", "examples", "documents")]
    # Earlier files have one utility for all benchmarks.
    utility = content.get("utility", document.data.get("utility"))
    if not all(isinstance(each, list) and all(isinstance(text, str) for text in each) for each in texts):
        raise refuse()
    if not isinstance(utility, str):
        raise refuse()
    try:
        curves = {
            method: {int(budget): [_tried(each) for each in tried] for budget, tried in by_budget.items()}
            for method, by_budget in content["curves"].items()
        }
    except (KeyError, ValueError, TypeError, AttributeError):
        raise refuse() from None
    heads, settings = content.get("heads", {}), content.get("settings", {})
    if not isinstance(heads, dict) or not all(isinstance(each, str) for each in heads.values()):
        raise refuse()
    if not isinstance(settings, dict):
        raise refuse()
    cells = [(budget, tried) for by_budget in curves.values() for budget, tried in by_budget.items()]
    if not all(curves.values()) or any(budget < 1 or not tried for budget, tried in cells):
        raise refuse()
    tasks, examples, documents = (tuple(each or ()) for each in texts)
    return Tuning(tasks, examples, documents, utility, curves, heads, settings)


#: What the knobs of the package may be; those of plug-ins may be any number, text or truth value.
_ALLOWED: dict[str, Callable[[Any], bool]] = {
    "window": lambda value: is_integer(value) and value >= 1,
    "observe": lambda value: is_integer(value) and value >= 1,
    "kernel": is_kernel,
    "pooling": is_pooling,
    "beta": lambda value: is_finite(value) and value >= 1,
    "alpha": lambda value: is_integer(value) and value >= 1,
    "safeguard": lambda value: is_finite(value) and 0 <= value <= 1,
    "sinks": lambda value: is_integer(value) and value >= 0,
}


def _plain(value: Any) -> bool:
    return isinstance(value, str | bool) or is_finite(value)


def _tried(entry: Any) -> Tried:
    options, utility = as_read(entry["options"]), entry["utility"]
    if not is_finite(utility) or not all(_ALLOWED.get(knob, _plain)(value) for knob, value in options.items()):
        raise ValueError
    return Tried(options, float(utility))
