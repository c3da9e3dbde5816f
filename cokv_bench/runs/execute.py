"""Running a plan: jobs go to an engine, records of each are on disk before it counts as done."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from cokv_bench.budget import written
from cokv_bench.checks import between_0_and_1, check_scores, number
from cokv_bench.engines import Call, LocalWorkers, Workers
from cokv_bench.models import Model
from cokv_bench.models.greedy import in_words
from cokv_bench.runs.checked import FIRST, LATER
from cokv_bench.runs.evaluate import Answer, Evaluation
from cokv_bench.runs.examples import write_examples
from cokv_bench.runs.journal import Journal, Key
from cokv_bench.runs.plan import Job, Part, Plan
from cokv_bench.runs.shards import Shard
from cokv_bench.runs.versions import versions
from cokv_bench.tasks.prompts import encode_parts
from cokv_bench.units import FRACTION

Progress = Callable[[int, int, str], None]


def execute(
    plan: Plan,
    folder: Path,
    progress: Progress = lambda done, total, note: None,
    *,
    request: Mapping[str, Any] | None = None,
    workers: Workers | None = None,
    shard: Shard | None = None,
    memory: int | None = None,
) -> None:
    """Evaluate or measure all examples of a plan that the run's folder does not hold yet.

    Records of an example are on disk before it counts as done, so a stopped run loses what was being evaluated and
    nothing else. Where a crash has left some records of an example, all are evaluated again and the missing ones are
    added: a batch of other rows would round differently.

    Args:
        folder: the run's folder; made, or gone on with.
        progress: called with prompts done, prompts in all, and the task at hand.
        request: what was asked for, by the names of the options, for the run's run.json.
        workers: where the work runs; default this process. This process alone writes.
        shard: the share of the work that is this process's; its records have a file of their own.
        memory: bytes that a prompt and what its rows generate may take; more rows than fit decode in turn.
    """
    jobs = plan.jobs if shard is None else shard.of(plan.jobs)
    produced_by: dict[str, Any] = versions()
    if workers is None and plan.model.device.type == "cpu":
        produced_by["threads"] = torch.get_num_threads()
    if plan.model.ignored_generation_settings:
        produced_by["generation settings left out"] = in_words(plan.model.ignored_generation_settings)
    with Journal(folder, plan.configuration, produced_by, shard, request) as journal:
        write_examples(folder, plan.jobs)
        todo = [job for job in jobs if any(key not in journal.done for key in _keys(job))]
        done = len(jobs) - len(todo)
        progress(done, len(jobs), todo[0].parts[0].task if todo else "done")
        engine = (workers or LocalWorkers(plan.model)).open(_model)
        for call, answers in engine.results(_calls(plan, todo, memory)):
            parts = plan.jobs[call.number].parts
            journal.append(_record(plan, parts[answer.part], answer) for answer in answers)
            done += 1
            progress(done, len(jobs), parts[0].task)


def _model(model: Model) -> Model:
    """What the calls get: the model itself."""
    return model


def _keys(job: Job) -> Iterator[Key]:
    return ((part.task, part.example.id, *variant.key) for part in job.parts for variant in part.variants)


def _calls(plan: Plan, jobs: list[Job], memory: int | None) -> Iterator[Call[Model]]:
    for job in jobs:
        encoded = encode_parts(plan.model, job.parts[0].example, plan.encoding)
        # Tasks are sent to workers only where a utility asks them.
        tasks = () if plan.utility is None else tuple(plan.tasks[part.task] for part in job.parts)
        yield Call(job.number, Evaluation(encoded, job.parts, plan.window, memory, plan.utility, tasks))


def _record(plan: Plan, part: Part, answer: Answer) -> dict[str, Any]:
    example = part.example
    return {
        "task": part.task,
        "example": example.id,
        **({"question_ids": list(example.questions)} if example.questions else {}),
        "method": answer.variant.method,
        "budget": written(answer.variant.budget),
        **_scored(plan, part, answer),
        **answer.measured,
        **example.fields,
    }


def _scored(plan: Plan, part: Part, answer: Answer) -> dict[str, Any]:
    """What was found, with its unit: an answer and its scores, or the value of the plan's utility.

    Of several questions of a context, the means over them, and what each has.
    """
    if plan.utility is not None:
        values = [{"score": value} for value in answer.values]
        check_scores(values, number, f"The utility '{plan.utility.name}'", part.task, part.example.id)
        return {**_over_questions(values), "unit": plan.utility.unit}
    task, first, *later = plan.tasks[part.task], *answer.texts
    examples = (part.example, *part.example.later)
    scores = [task.score(example, text) for example, text in zip(examples, answer.texts, strict=True)]
    check_scores(scores, between_0_and_1, f"The metric '{task.metric}'", part.task, part.example.id)
    told = {"later_predictions": later} if later else {}
    return {"prediction": first, **told, **_over_questions(scores), "unit": FRACTION}


def _over_questions(scores: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The columns of a record from those of each question."""
    if len(scores) == 1:
        return dict(scores[0])
    every = [each["score"] for each in scores]
    return {
        **{name: fmean(each[name] for each in scores) for name in scores[0]},
        FIRST: every[0],
        LATER: fmean(every[1:]),
        "question_scores": every,
    }
