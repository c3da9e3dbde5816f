"""What a run will do, fixed before it starts: examples, variants, and the configuration that names it."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cokv_bench.budget import Budget, PromptShare, written
from cokv_bench.errors import RequestError
from cokv_bench.game.utilities import PromptUtility, get_utility
from cokv_bench.models import Model
from cokv_bench.policies import Policy
from cokv_bench.policies.names import FULL
from cokv_bench.runs.contents import naming
from cokv_bench.runs.grid import SCORE
from cokv_bench.runs.overlap import Seen, refuse_seen, with_documents, without_seen
from cokv_bench.tasks import Example, Split, Task, split_rule
from cokv_bench.tasks.base import contents
from cokv_bench.tasks.empty import no_examples
from cokv_bench.tasks.prompts import Encoding, check_prompts, reading


@dataclass(frozen=True)
class Variant:
    """A method at a budget (tokens per KV head, window included, or a share of the prompt); `full` has no budget."""

    method: str
    budget: Budget | None
    policy: Policy

    @property
    def key(self) -> tuple[str, int | str | None]:
        """Method and budget, as records have them."""
        return self.method, written(self.budget)


@dataclass(frozen=True)
class Part:
    """An example of a task with the variants that are evaluated on it."""

    task: str
    example: Example
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Job:
    """What one prefill serves: the parts whose prompts are the same, such as a row of trec that trec_e has too."""

    number: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Plan:
    """A grid of tasks, examples and variants on one model.

    Attributes:
        jobs: the work, longest prompts first: what does not fit in memory shows at once, and the last jobs, which
            workers may wait for, are short.
        window: the largest observation window of the variants, in tokens: prompts are prefilled with it.
        encoding: how prompts become token ids.
        configuration: everything that decides a result, as JSON; two runs with equal configurations are one run.
        left_out: ids by task of the examples that are not in the run because head budgets were made from them or from
            their documents.
        utility: what is measured of each variant; None where answers are generated and scored.
    """

    model: Model
    tasks: Mapping[str, Task]
    jobs: list[Job]
    window: int
    encoding: Encoding
    configuration: dict[str, Any]
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    utility: PromptUtility | None = None

    @property
    def answers(self) -> int:
        """Number of records that the whole run has."""
        return sum(len(part.variants) for job in self.jobs for part in job.parts)

    @property
    def examples(self) -> Mapping[str, int]:
        """Number of examples by task."""
        return {task: told["examples"] for task, told in self.configuration["tasks"].items()}

    @property
    def name(self) -> str:
        """Folder name of the run: the model and a hash of the configuration, see `naming`."""
        digest = hashlib.sha256(json.dumps(naming(self.configuration), sort_keys=True).encode()).hexdigest()
        return f"{self.model.folder_name}-{digest[:8]}"


def make_plan(
    model: Model,
    tasks: Sequence[Task],
    variants: Mapping[str, Sequence[Variant]],
    budgets: Sequence[Budget],
    *,
    window: int,
    split: Split,
    seed: int,
    encoding: Encoding | None = None,
    settings: Mapping[str, Any],
    profiled: Mapping[str, Seen],
    leave_out_seen: bool = False,
    used: Mapping[str, Seen] | None = None,
    utility: str = SCORE,
) -> Plan:
    """Check a request as a whole and lay it out.

    Args:
        variants: by task name; the same methods and budgets for every task.
        window: observation window of the policies that have none of their own.
        settings: what else decides a result (pooling, rounding, hashes of budget files), for the configuration.
        profiled: what each method's budgets were made from.
        leave_out_seen: evaluate no method on what any of them has seen, in place of refusing; tasks of which nothing is
            left are not in the run.
        used: what earlier runs were evaluated on; it is left out.
        utility: name of the utility that is measured; `SCORE` scores the answers.

    Raises:
        RequestError: a budget in tokens that is not above the window, no examples, examples that a method was profiled
            on or others of their documents, a prompt longer than the context of the model, or one that cannot be
            compressed before its question.
    """
    encoding = encoding or Encoding()
    measured = None if utility == SCORE else get_utility(utility)
    largest = max(_checked_window(each, window) for of_task in variants.values() for each in of_task)
    examples = {task.name: task.examples(split) for task in tasks}
    for each in tasks:
        task, rows = each.name, examples[each.name]
        if not rows:
            raise no_examples(split, [each])
        name, times = Counter(row.id for row in rows).most_common(1)[0]
        if times > 1:
            raise RequestError(
                f"'{task}' gives the example '{name}' {times} times in the split '{split}', but records tell examples "
                "apart by their ids; correct the task, so that each example has an id of its own."
            )
        unlabelled = sum(not row.answers for row in rows)
        if unlabelled and (measured is None or measured.needs_answers):
            raise RequestError(
                f"{unlabelled} of the {len(rows)} examples of '{task}' have no answers to score against; "
                "add a field 'answers', or measure --utility agreement."
            )
    seen = with_documents(profiled, tasks)
    examples, left_out = without_seen(examples, {**(used or {}), **(seen if leave_out_seen else {})})
    refuse_seen(examples, {} if leave_out_seen else seen)
    prompts = [row for rows in examples.values() for row in rows]
    check_prompts(model, prompts, encoding)
    configuration: dict[str, Any] = {
        "model": model.fingerprint,
        "dtype": str(model.network.dtype).removeprefix("torch."),
        "tasks": {task.name: _task_configuration(task, examples[task.name]) for task in tasks if task.name in examples},
        "methods": sorted({variant.method for each in variants.values() for variant in each}),
        "budgets": [written(budget) for budget in sorted(set(budgets))],
        "window": window,
        "split": split,
        **split_rule(tasks),
        **({"left_out": left_out} if left_out else {}),
        "seed": seed,
        "max_length": encoding.max_length,
        "question_agnostic": encoding.question_agnostic,
        "reading": reading(model, prompts, encoding),
        **settings,
        **({} if measured is None else {"utility": utility}),
    }
    parts = [Part(task, row, tuple(variants[task])) for task, rows in examples.items() for row in rows]
    by_name = {task.name: task for task in tasks}
    return Plan(model, by_name, _jobs(parts), largest, encoding, configuration, left_out, measured)


def _checked_window(variant: Variant, window: int) -> int:
    """The window that a variant reads; its budget must lie above it, where it is one in tokens."""
    if variant.budget is not None and not isinstance(variant.budget, PromptShare):
        variant.policy.check_budget(variant.budget, variant.policy.window or window)
    return variant.policy.sees(window)


def variants_of(policies: Mapping[str, Callable[[Budget | None], Policy]], budgets: Sequence[Budget]) -> list[Variant]:
    """The methods at the budgets, each once.

    Args:
        policies: by method; from a budget (None for `full`, which has none) to the method's policy there.
    """
    return [
        Variant(method, budget, make(budget))
        for method, make in policies.items()
        for budget in ([None] if method == FULL else sorted(set(budgets)))
    ]


def _jobs(parts: Sequence[Part]) -> list[Job]:
    shared: dict[Any, list[Part]] = {}
    for part in parts:
        example = part.example
        # How an answer ends is part of it: the room that a prompt is cut to depends on the answer's length.
        asked = tuple(
            (each.prompt, each.question, each.begun, each.max_new_tokens, each.stop_at_newline)
            for each in (example, *example.later)
        )
        # What the first question is answered with goes before the later ones.
        key = (asked, example.told if example.later and example.answers else "", example.chat, example.truncate)
        shared.setdefault(key, []).append(part)
    # Bytes of the text follow tokens well enough, in all scripts, and cost nothing.
    groups = sorted(shared.values(), key=lambda group: -len(group[0].example.prompt.encode("utf-8", "surrogatepass")))
    return [Job(number, tuple(group)) for number, group in enumerate(groups)]


def _task_configuration(task: Task, examples: Sequence[Example]) -> dict[str, Any]:
    ids = hashlib.sha256("\n".join(example.id for example in examples).encode()).hexdigest()[:16]
    questions = max(1 + len(example.later) for example in examples)
    told = {"version": task.version, "metric": task.metric, "examples": len(examples), "ids": ids}
    # Ids say nothing of the answers, and of rows nothing of what the prompt makes of them.
    rules = getattr(task, "rules_digest", None)
    (text,) = contents([(task, example) for example in examples]).values()
    # Earlier versions told the first of several answers alone.
    joined = any(example.later and example.joint and len(example.answers) > 1 for example in examples)
    return {
        **told,
        **({"questions": questions} if questions > 1 else {}),
        **({"told": "all answers"} if joined else {}),
        **({"rules": rules} if rules else {}),
        "contents": text,
    }
