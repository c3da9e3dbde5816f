"""What the command line says about tasks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cokv_bench.option import Option

#: What a command works on where nobody names a task.
DEFAULT_TASK = "needle"

_TASKS = "Tasks"
_MADE = "Needle in a Haystack, and RULER (lengths, examples)"


@dataclass(frozen=True)
class TaskOptions:
    """What the command line says about tasks; each task takes what concerns it.

    Attributes:
        names: of tasks or groups of tasks, as `cokv-bench ls tasks` lists them.
        limit: of the examples of a task of rows; tasks that are made at any length have `examples_a_length`.
        lengths, examples: of tasks that are made at any length; examples is per length.
        depths, needles: Needle in a Haystack.
        template, metric: for `jsonl:` rows.
        questions: of each context. `Grid.questions_per_context` sets it, since only an evaluation asks several.
    """

    names: Annotated[
        tuple[str, ...], Option("Tasks, comma separated; see `cokv-bench ls tasks`.", _TASKS, name="tasks")
    ] = (DEFAULT_TASK,)
    data_dir: Annotated[
        Path | None,
        Option(
            "Folder with the data of LongBench (official JSONL or data.zip) or of a published table, or with one such "
            "folder per benchmark, named after it. Default: $COKV_BENCH_DATA, then the hub.",
            _TASKS,
        ),
    ] = None
    limit: Annotated[
        int | None,
        Option(
            "Tasks of rows, such as LongBench: at most this many examples per task. Tasks made at any length, such as "
            "needle: this many examples per length, unless --examples is given.",
            _TASKS,
            least=1,
        ),
    ] = None
    seed: Annotated[int, Option("Seed of the splits, the needles and the sampling.", least=0)] = 0
    lengths: Annotated[tuple[int, ...], Option("Prompt lengths in tokens, comma separated.", _MADE)] = (1024,)
    depths: Annotated[int, Option("Number of needle depths, evenly spaced from 0 to 100 percent.", _MADE, least=1)] = 10
    examples: Annotated[
        int | None,
        Option(
            "Examples per length. Default: --limit, or else one per depth (needles), 10 (RULER, recall, text).",
            _MADE,
            least=1,
        ),
    ] = None
    haystack: Annotated[Path | None, Option("Folder of .txt files instead of the embedded text.", _MADE)] = None
    needles: Annotated[
        Path | None, Option("JSONL with needle, question, answer instead of the embedded ones.", _MADE)
    ] = None
    ruler_qa: Annotated[
        tuple[Path, ...],
        Option("Questions for ruler/qa_1 (SQuAD JSON) or ruler/qa_2 (HotpotQA JSON); repeatable.", _MADE),
    ] = ()
    template: Annotated[str | None, Option("Prompt template of jsonl: rows, with {context} and {input}.", _TASKS)] = (
        None
    )
    metric: Annotated[str | None, Option("Metric of jsonl: rows.", _TASKS)] = None
    questions: int = 1

    @property
    def examples_a_length(self) -> int | None:
        """Of a task that makes examples up; None: as many as the task makes by default."""
        return self.limit if self.examples is None else self.examples
