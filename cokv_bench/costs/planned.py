"""What a plan's work amounts to, for an estimate of its cost."""

from collections import Counter
from typing import TYPE_CHECKING

from cokv_bench.costs.estimate import Load
from cokv_bench.tasks.prompts import encode_parts

if TYPE_CHECKING:
    from cokv_bench.runs.plan import Plan


def plan_loads(plan: "Plan") -> list[tuple[str, list[Load]]]:
    """The loads of each task, exact in prompts, tokens and rows; a prompt of several tasks counts for the first."""
    found: dict[str, Counter[Load]] = {}
    for job in plan.jobs:
        example = job.parts[0].example
        encoded = encode_parts(plan.model, example, plan.encoding)
        variants = [variant for part in job.parts for variant in part.variants]
        load = Load(
            prompts=1,
            tokens=len(encoded.prompt),
            rows=len({variant.key for variant in variants}),
            new_tokens=sum(len(ids) + example.max_new_tokens for ids in (encoded.question, *encoded.later)),
            accumulated=any(variant.policy.needs_accumulated_attention for variant in variants),
        )
        found.setdefault(job.parts[0].task, Counter())[load] += 1
    return [(task, list(counted.elements())) for task, counted in found.items()]
