"""What the budgets of a run were made from, and so must not be judged on: examples, and others of their documents."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cokv_bench.errors import RequestError
from cokv_bench.runs.journal import read_records, read_run
from cokv_bench.tasks import Example, Task
from cokv_bench.tasks.base import documents_of


@dataclass(frozen=True)
class Seen:
    """What budgets or knobs were made from.

    Attributes:
        examples: ids of examples, and of single questions of those that have several.
        documents: of these examples, see `Example.document`; files of earlier versions do not say.
    """

    examples: frozenset[str] = frozenset()
    documents: frozenset[str] = frozenset()

    def holds(self, example: Example) -> bool:
        """Whether an example, a question of it or another one of its document was seen."""
        return self.has(example) or example.document in self.documents

    def has(self, example: Example) -> bool:
        """Whether an example itself or a question of it was seen."""
        return not example.ids.isdisjoint(self.examples)


def used_by(runs: Sequence[Path], questions: int = 1) -> dict[str, Seen]:
    """The examples of earlier runs, without the rest of their documents, by what they are called.

    Args:
        questions: that the run which leaves them out asks of each context.

    Raises:
        RequestError: a folder is no run, its records are damaged, or they do not say which questions they asked and
            the run asks another number of them.
    """
    return {f"records of {folder}": Seen(_ids(folder, questions)) for folder in runs}


def _ids(folder: Path, questions: int) -> frozenset[str]:
    """The ids of a run's examples and of their single questions."""
    records = read_records(folder)
    told = read_run(folder)["configuration"]["tasks"] if records else {}
    silent = {record["task"] for record in records if "question_ids" not in record}
    asked = next((told[task]["questions"] for task in sorted(silent) if told[task].get("questions", 1) > 1), questions)
    if asked != questions:
        raise RequestError(
            f"The records of {folder}, of an earlier version, ask {asked} questions per context and do not say which, "
            f"so they cannot be left out of a run with {questions}; use --questions-per-context {asked}, or run that "
            "one again."
        )
    return frozenset(name for record in records for name in (record["example"], *record.get("question_ids", ())))


def with_documents(seen: Mapping[str, Seen], tasks: Iterable[Task]) -> dict[str, Seen]:
    """The same, with the documents of all ids that are rows of some tasks, in whatever split.

    Raises:
        RequestError: the rows cannot be read.
    """
    known = documents_of(tasks) if any(each.examples for each in seen.values()) else {}
    return {
        subject: Seen(each.examples, each.documents | {known[name] for name in each.examples if name in known})
        for subject, each in seen.items()
    }


def refuse_seen(examples: Mapping[str, Sequence[Example]], seen: Mapping[str, Seen]) -> None:
    """Refuse to judge budgets or knobs on what they were made from.

    Args:
        seen: by what was made, such as "budgets of 'cokv'".

    Raises:
        RequestError: names the first of them and the task, and the option that leaves such examples out.
    """
    for subject, each in seen.items():
        for task, rows in examples.items():
            same = sum(map(each.has, rows))
            near = sum(each.holds(row) for row in rows) - same
            if same or near:
                raise RequestError(
                    f"The {subject} were made from {same} of the {len(rows)} examples of '{task}' that would be "
                    f"evaluated, and from documents of {near} others; leave these out for all methods with "
                    "--leave-out-seen, or name ones that were made from other examples."
                )


def without_seen(
    examples: Mapping[str, Sequence[Example]], seen: Mapping[str, Seen]
) -> tuple[dict[str, list[Example]], dict[str, list[str]]]:
    """The examples by task of which no method has seen anything, and the ids of the others.

    Tasks of which nothing is left are not among the first, tasks of which all is left not among the second.

    Raises:
        RequestError: nothing is left at all.
    """
    kept: dict[str, list[Example]] = {}
    left: dict[str, list[str]] = {}
    for task, rows in examples.items():
        for row in rows:
            if any(each.holds(row) for each in seen.values()):
                left.setdefault(task, []).append(row.id)
            else:
                kept.setdefault(task, []).append(row)
    if not kept:
        raise RequestError(
            f"Nothing is left to evaluate: the {' and the '.join(sorted(seen))} were made from all "
            f"{sum(map(len, examples.values()))} examples or from their documents; name other tasks or budgets."
        )
    return kept, left


def left_out_line(left: Mapping[str, Sequence[str]], kept: Mapping[str, int]) -> str:
    """What was left out, for the reader.

    Args:
        left: ids by task.
        kept: number of the other examples by task.
    """
    counts = [f"{task} {len(ids)} of {len(ids) + kept.get(task, 0)}" for task, ids in left.items()]
    why = "budgets or knobs were made from them or their documents, or earlier runs had them"
    return f"Left out for all methods, as {why}: {', '.join(counts)}."
