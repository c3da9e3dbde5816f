"""The grid of a run as it is asked for: methods at budgets, on a split."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, get_args

from cokv_bench.budget import Budget
from cokv_bench.errors import unknown
from cokv_bench.option import Option
from cokv_bench.tasks.base import Split
from cokv_bench.tasks.options import TaskOptions

#: The settings of `--knobs` that are no file.
TUNED, PAPERS = "tuned", "papers"
#: What `--utility` measures unless it names a utility: the answers, scored.
SCORE = "score"
METHODS = ("full", "streaming-llm", "snapkv", "pyramidkv", "ada-snapkv", "ada-pyramid", "cokv")


@dataclass(frozen=True)
class Grid:
    """Methods at budgets on a split, and the settings that all methods share.

    Attributes:
        methods: names, with options of their own where they have some.
        budgets: tokens per KV head on average, window included, or shares of the prompt.
        window: observation window of all methods; None for each method's own.
        kernel, pooling: of all methods that pool window scores; None for each method's own.
        sinks: first tokens that all methods protect, as they do the window; None for each method's own.
        knobs: which settings the methods have: "tuned" (chosen on profile examples, where the model has such a choice),
            "papers" (as published), or a file of `cokv-bench tune`.
        leave_out_seen: leave out, for all methods alike, what any method's head file was made from, and all else of the
            same documents; else such examples are refused.
        questions_per_context: asked one after the other of the same compressed prompt.
        leave_out_runs: folders of earlier runs, whose examples are left out: for a judgement on what nobody has seen.
    """

    methods: Annotated[
        tuple[str, ...], Option("Methods, comma separated; see `cokv-bench ls methods`.", name="method")
    ] = METHODS
    budgets: Annotated[
        tuple[Budget, ...],
        Option(
            "Tokens kept per KV head on average, window included, or a share of each prompt such as 25%; comma "
            "separated.",
            name="budget",
        ),
    ] = (128,)
    split: Annotated[
        str, Option("Examples to use: test (never profiled on), profile, report (reserved for final results) or all.")
    ] = "test"
    leave_out_seen: Annotated[
        bool,
        Option(
            "Leave out, for all methods, the examples that a head file was made from and others from the same "
            "documents. Default: stop with an error."
        ),
    ] = False
    leave_out_runs: Annotated[
        tuple[Path, ...],
        Option("Leave out the examples of this earlier run; repeatable.", name="leave_out_run"),
    ] = ()
    questions_per_context: Annotated[
        int,
        Option(
            "Ask this many questions about each context, which is compressed once (needle, RULER's needles and chains, "
            "rows that share a context).",
            least=1,
        ),
    ] = 1
    window: Annotated[
        int | None,
        Option(
            "Last prompt tokens that every head keeps; part of the budget. Default: the window with "
            "which the method's head file or knobs were made, else 8.",
            least=1,
        ),
    ] = None
    kernel: Annotated[
        int | None,
        Option(
            "Width of the pooling over window scores, in tokens. Default: the method's own, else 7.",
            least=1,
        ),
    ] = None
    pooling: Annotated[
        str | None, Option("Pooling over window scores: max or avg. Default: the method's own, else max.")
    ] = None
    sinks: Annotated[
        int | None,
        Option(
            "First prompt tokens that every head keeps; part of the budget. Default: 4 for StreamingLLM, else none.",
            least=0,
        ),
    ] = None
    published_rounding: Annotated[
        bool, Option("Round as the published code does; totals then differ between methods.")
    ] = False
    knobs: Annotated[
        str,
        Option(
            "Settings of the methods: tuned (chosen on profile examples, if they ship for the model), papers (as "
            "published), or a file written by `cokv-bench tune`."
        ),
    ] = TUNED
    utility: Annotated[
        str,
        Option(
            "What to measure: score (of each generated answer), or a utility (`cokv-bench ls utilities`) such as "
            "loglik (log-probability of the reference answers), agreement (of the full cache's answers) or acceptance "
            "(how much of those answers is still generated)."
        ),
    ] = SCORE

    def with_questions(self, tasks: TaskOptions) -> TaskOptions:
        """What is asked about tasks, with the questions of each context."""
        return replace(tasks, questions=self.questions_per_context)

    def check(self) -> None:
        """Refuse a split that is none. Raises `RequestError` with the nearest ones."""
        if self.split not in get_args(Split):
            raise unknown("split", self.split, get_args(Split))
