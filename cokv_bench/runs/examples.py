"""What was asked in a run: once an example, apart from the records of what was answered."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cokv_bench.files import write_text
from cokv_bench.tasks.base import Example

if TYPE_CHECKING:
    from cokv_bench.runs.plan import Job

EXAMPLES = "examples.jsonl"


def write_examples(folder: Path, jobs: "Iterable[Job]") -> None:
    """Write `examples.jsonl`: a line a task and example with its question and reference answers, and later ones.

    The file follows from the run's configuration, so one that is there is left as it is, and shards write the same.

    Raises:
        RequestError: the folder cannot be written.
    """
    path = folder / EXAMPLES
    if path.exists():
        return
    lines = {
        (part.task, part.example.id): json.dumps(
            {
                "task": part.task,
                "example": part.example.id,
                "question": part.example.question,
                "answers": list(part.example.answers),
                **_later(part.example),
            }
        )
        for job in jobs
        for part in job.parts
    }
    write_text(path, "".join(f"{lines[key]}\n" for key in sorted(lines)))


def _later(example: Example) -> dict[str, Any]:
    asked = [{"question": each.question, "answers": list(each.answers)} for each in example.later]
    return {"later": asked} if asked else {}
