"""Agreement with the full cache: how likely the model's own answer stays. Needs prompts and no labels."""

from collections.abc import Sequence

from cokv_bench.game.utilities.base import PromptUtility
from cokv_bench.game.utilities.teacher import mean_logprobs
from cokv_bench.kvcache import Prompt, Selection, decode
from cokv_bench.models import Model
from cokv_bench.tasks import Example, Task


def measure(
    model: Model,
    task: Task,
    example: Example,
    prompt: Prompt,
    selections: Sequence[Selection],
    *,
    memory: int | None = None,
) -> list[float]:
    """Mean log-probability (nats a token) of the full cache's greedy answer under each selection, first token left out.

    The answer is generated once a prompt, its stop token counts. Where it ends at its first token no
    selection can change it, and all of them get 0, the log-probability of certainty.
    """
    answer = _own_answer(model, example, prompt)
    if len(answer) < 2:
        return [0.0] * len(selections)
    return mean_logprobs(model, prompt, selections, answer, memory=memory)


def _own_answer(model: Model, example: Example, prompt: Prompt) -> list[int]:
    key = ("own answer", example.max_new_tokens, example.stop_at_newline)
    if key not in prompt.memo:
        full = Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)
        (answer,) = decode(
            model,
            prompt,
            [full],
            max_new_tokens=example.max_new_tokens,
            stop_at_newline=example.stop_at_newline,
        )
        prompt.memo[key] = answer.token_ids
    found: list[int] = prompt.memo[key]
    return found


AGREEMENT = PromptUtility(
    "agreement",
    "mean log-probability of the full cache's own answer; needs no labels (fast)",
    measure,
    needs_answers=False,
)
