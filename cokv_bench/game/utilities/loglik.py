"""Mean log-probability of the reference answer, teacher forced: one forward pass for a batch of selections."""

from collections.abc import Sequence

from cokv_bench.errors import RequestError
from cokv_bench.game.utilities.base import PromptUtility
from cokv_bench.kvcache import Prompt, Selection, decode
from cokv_bench.models import Model, encode_answer
from cokv_bench.tasks import Example, Task


def measure(model: Model, task: Task, example: Example, prompt: Prompt, selections: Sequence[Selection]) -> list[float]:
    """Mean log-probability (nats a token) of the first reference answer under each selection.

    The first token is left out: it depends on the prefill alone, so no selection changes it. An answer of
    one token is therefore followed by the model's stop token. Long answers count up to the task's token limit.

    Raises:
        RequestError: an example without a reference answer.
    """
    answer = encode_answer(model, example.prompt, example.answers[0], chat=example.chat) if example.answers else []
    if not answer:
        raise RequestError(f"Example {example.id} of '{task.name}' has no reference answer to score; leave it out.")
    if len(answer) == 1:
        answer = [*answer, min(model.stop_ids)]
    rows = decode(model, prompt, selections, teacher=answer[: max(2, example.max_new_tokens)])
    return [float(row.logprobs[1:].double().mean()) for row in rows if row.logprobs is not None]


LOGLIK = PromptUtility("loglik", "mean log-probability of the reference answer, teacher forced (fast)", measure)
