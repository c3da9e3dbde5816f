"""What the command line says about tasks."""

from dataclasses import dataclass
from pathlib import Path

#: What a command works on where nobody names a task.
DEFAULT_TASK = "needle"


@dataclass(frozen=True)
class TaskOptions:
    """What the command line says about tasks; each task takes what concerns it.

    Attributes:
        data_dir: LongBench data (folder or data.zip); None looks at COKV_BENCH_DATA, then the hub.
        limit: the most examples per task.
        seed: fixes the split, the needles and what RULER draws.
        lengths, examples: Needle in a Haystack, RULER and text; examples is per length.
        haystack: Needle in a Haystack and text.
        depths, needles: Needle in a Haystack.
        ruler_qa: files of questions for ruler/qa_1 and ruler/qa_2.
        template, metric: for `jsonl:` rows.
    """

    data_dir: Path | None = None
    limit: int | None = None
    seed: int = 0
    lengths: tuple[int, ...] = (1024,)
    depths: int = 10
    examples: int | None = None
    haystack: Path | None = None
    needles: Path | None = None
    ruler_qa: tuple[Path, ...] = ()
    template: str | None = None
    metric: str | None = None

    @property
    def examples_a_length(self) -> int | None:
        """Of a task that makes examples up; None: as many as the task makes by default."""
        return self.limit if self.examples is None else self.examples
