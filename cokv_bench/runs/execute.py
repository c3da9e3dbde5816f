"""Running a plan: one prefill an example, every method and budget decoded from it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cokv_bench.kvcache import decode, prefill
from cokv_bench.runs.journal import Journal
from cokv_bench.runs.plan import Plan, Variant
from cokv_bench.runs.versions import versions
from cokv_bench.tasks import Example, Task
from cokv_bench.tasks.prompts import encode_example

Progress = Callable[[int, int, str], None]


def execute(plan: Plan, folder: Path, progress: Progress = lambda done, total, note: None) -> None:
    """Evaluate all examples of a plan that the run's folder does not hold yet.

    Records of an example are on disk before the next example starts, so a stopped run loses one example at most.

    Args:
        folder: the run's folder; made, or gone on with.
        progress: called with examples done, examples in all, and the task at hand.
    """
    todo = [(task, example) for task in plan.tasks for example in plan.examples[task.name]]
    with Journal(folder, plan.configuration, versions()) as journal:
        for index, (task, example) in enumerate(todo):
            progress(index, len(todo), task.name)
            missing = [v for v in plan.variants if (task.name, example.id, *v.key) not in journal.done]
            if missing:
                journal.append(evaluate_example(plan, task, example, missing))
        progress(len(todo), len(todo), "done")


def evaluate_example(plan: Plan, task: Task, example: Example, variants: list[Variant]) -> list[dict[str, Any]]:
    """Records of one example, one a variant. The prompt passes prefill once."""
    model = plan.model
    ids = encode_example(model, example, max_length=plan.max_length)
    started = time.perf_counter()
    prompt = prefill(
        model,
        ids,
        window=plan.window,
        accumulated_attention=any(variant.policy.needs_accumulated_attention for variant in variants),
    )
    prefilled = time.perf_counter()
    choices = [variant.policy.select(prompt, variant.budget) for variant in variants]
    answers = decode(
        model, prompt, choices, max_new_tokens=example.max_new_tokens, stop_at_newline=example.stop_at_newline
    )
    decoded = time.perf_counter()
    return [
        {
            "task": task.name,
            "example": example.id,
            "method": variant.method,
            "budget": variant.budget,
            "prediction": answer.text,
            "answers": list(example.answers),
            **task.score(example, answer.text),
            "prompt_tokens": prompt.tokens,
            "new_tokens": len(answer.token_ids),
            "kept_tokens": choice.total,
            "kv_bytes": choice.total * model.bytes_per_token,
            "prefill_seconds": round(prefilled - started, 4),
            # All variants decode as one batch, so this is the time of the batch, the same in each of its records.
            "decode_seconds": round(decoded - prefilled, 4),
            **example.fields,
        }
        for variant, choice, answer in zip(variants, choices, answers, strict=True)
    ]
