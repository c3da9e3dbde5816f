"""An answer to a long prompt from a compressed cache, in one call."""

from collections.abc import Sequence

from torch import Tensor

from cokv_bench.budget import Budget
from cokv_bench.checks import check_count
from cokv_bench.errors import RequestError
from cokv_bench.kvcache.compress import compress
from cokv_bench.kvcache.continuation import Continuation
from cokv_bench.kvcache.decode import Generation
from cokv_bench.kvcache.inputs import one_row
from cokv_bench.models import Model
from cokv_bench.models.chat import encode
from cokv_bench.policies.policy import Policy
from cokv_bench.policies.registry import get_policy


def generate(
    model: Model,
    prompt: str | Sequence[int] | Tensor,
    policy: str | Policy = "snapkv",
    budget: Budget | str | None = 128,
    *,
    max_new_tokens: int = 256,
) -> Generation:
    """Prefill a prompt, evict layer by layer, and answer greedily.

    Args:
        prompt: a text, which becomes a user's turn where the model has a chat template; or token ids as they are.
        policy: a method by name, such as "ada-snapkv:kernel=11", or one that `get_policy` gave.
        budget: tokens per KV head on average, window included, or a share of the prompt's such as "25%".
        max_new_tokens: the most tokens of the answer.

    Raises:
        RequestError: an unknown method, an answer of no tokens or beyond the context, and see `compress` and
            `Continuation.write`.
    """
    ids = encode(model, prompt, chat=True) if isinstance(prompt, str) else one_row(prompt).tolist()
    chosen = get_policy(policy) if isinstance(policy, str) else policy
    check_count(max_new_tokens, 1, "An answer")
    if len(ids) + max_new_tokens > model.context:
        raise RequestError(
            f"A prompt of {len(ids)} tokens and {max_new_tokens} new ones exceed the context of '{model.name}', "
            f"{model.context} tokens; ask for less (max_new_tokens)."
        )
    # The last token of an answer is never fed back.
    found = compress(model, ids, chosen, budget, reserve=max(1, max_new_tokens - 1))
    return Continuation(model, ids, found).write(max_new_tokens)
