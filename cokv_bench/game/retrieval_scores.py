"""HeadKV's head scores (arXiv 2410.19258): how much each query head looks at the answer while it is being given."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cokv_bench.budgets import HeadScores
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import prefill
from cokv_bench.models import Model, encode_answer
from cokv_bench.models.finite import not_finite
from cokv_bench.policies.attention import attention
from cokv_bench.tasks import Example, Task
from cokv_bench.tasks.prompts import encode_example

SOURCE = (
    "Attention of each query head on the answer inside a needle prompt, summed over the answer's tokens among the "
    "head's most attended positions, averaged over the tokens of the teacher-forced answer and over the examples."
)


def retrieval_scores(
    model: Model, task: Task, progress: Callable[[int, int, str], None] = lambda done, total, note: None
) -> HeadScores:
    """Score the query heads on the profile split of a task whose answers stand in its prompts.

    For each token of the reference answer, teacher forced with the full cache, a head scores the attention that it
    gives to the places of the answer in the prompt, as far as these are among its N most attended positions, N
    being the number of those places.

    Raises:
        RequestError: no example of the profile split holds its answer in its prompt.
    """
    examples = task.examples("profile")
    total = np.zeros((model.layers, model.heads))
    used: list[Example] = []
    for index, example in enumerate(examples):
        progress(index, len(examples), task.name)
        ids = encode_example(model, example)
        places = answer_places(model, ids, example)
        if places:
            answer = encode_answer(model, example.prompt, example.answers[0], chat=example.chat, begun=example.begun)
            total += example_scores(model, ids, answer, places)
            used.append(example)
    progress(len(examples), len(examples), task.name)
    if not used:
        raise RequestError(f"No prompt of '{task.name}' holds its answer; head scores need a task such as 'needle'.")
    fingerprint = {**model.fingerprint, "heads": model.heads}
    return HeadScores(
        fingerprint,
        total / len(used),
        SOURCE,
        (task.name,),
        tuple(example.id for example in used),
        tuple(dict.fromkeys(example.document for example in used)),
    )


def answer_places(model: Model, ids: Sequence[int], example: Example) -> list[int]:
    """Positions of the prompt's tokens in which the reference answer is written, where it first occurs."""
    answer, tokenizer = example.answers[0], model.text_tokenizer
    start = tokenizer.decode(ids).find(answer)
    if start < 0:
        return []

    def length(tokens: int) -> int:
        # Of all that comes before: a token alone may lose the space that it begins with.
        return len(tokenizer.decode(ids[:tokens]))

    first = bisect_right(range(len(ids)), start, key=lambda place: length(place + 1))
    return list(range(first, bisect_left(range(len(ids)), start + len(answer), lo=first + 1, key=length)))


def example_scores(
    model: Model, ids: Sequence[int], answer: Sequence[int], places: Sequence[int]
) -> NDArray[np.float64]:
    """Scores of one example, float64 [layers, heads], in [0, 1].

    Args:
        places: positions of the prompt that count.
    """
    # The queries that choose the answer's tokens are those of the prompt's last token and of the answer but its last.
    steps = len(answer)
    prompt = prefill(model, [*ids, *answer[:-1]], window=steps, accumulated_attention=False, room=1)
    counts = torch.zeros(prompt.tokens, dtype=torch.bool)
    counts[list(places)] = True
    result = np.zeros((model.layers, model.heads))
    for layer in range(model.layers):
        queries, keys = prompt.window_queries[layer], prompt.keys[layer]
        seen = attention(queries, keys, prompt.form(layer), own=steps).view(model.heads, steps, prompt.tokens)
        weights, positions = seen.topk(len(places))
        if not weights.isfinite().all():
            raise not_finite(model, "attention weights", f" in layer {layer}")
        hits = weights * counts.to(weights.device)[positions]
        result[layer] = hits.sum(-1).mean(-1).double().cpu().numpy()
    return result
