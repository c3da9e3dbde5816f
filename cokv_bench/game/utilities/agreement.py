"""Agreement with the full cache: how likely the model's own answer stays. Needs prompts and no labels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cokv_bench.game.utilities.base import Case, PromptUtility
from cokv_bench.game.utilities.teacher import of_answer
from cokv_bench.registries import UTILITIES
from cokv_bench.units import NATS

if TYPE_CHECKING:
    from cokv_bench.kvcache import Selection


def measure(case: Case, selections: "Sequence[Selection]") -> list[float]:
    """Mean log-probability (nats per token) of the full cache's greedy answer under each selection.

    The first token is left out unless a question is appended. The answer is generated once a prompt, its stop token
    counts. Where it ends at a first token that no selection can change, all of them get 0, the log-probability of
    certainty.
    """
    answer = own_answer(case)
    if len(answer) < 2 and not case.first_token_counts:
        return [0.0] * len(selections)
    return of_answer(case, selections, answer)


def own_answer(case: Case) -> list[int]:
    """Ids that the model answers with the full cache."""
    from cokv_bench.kvcache import Selection, decode  # On first use: the names of utilities are told without torch.

    prompt, example = case.prompt, case.example
    key = ("own answer", case.question, example.max_new_tokens, example.stop_at_newline)
    if key not in prompt.memo:
        (answer,) = decode(
            case.model,
            prompt,
            [Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)],
            max_new_tokens=example.max_new_tokens,
            question=case.question,
            stop_at_newline=example.stop_at_newline,
        )
        prompt.memo[key] = answer.token_ids
    found: list[int] = prompt.memo[key]
    return found


AGREEMENT = PromptUtility(
    "agreement",
    UTILITIES.line("agreement"),
    measure,
    needs_answers=False,
    answer=own_answer,
    unit=NATS,
)
