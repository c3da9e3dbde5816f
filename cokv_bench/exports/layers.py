"""One budget for each layer, for runtimes that give all heads of a layer the same."""

import json

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets.apportion import apportion
from cokv_bench.budgets.checked_json import json_at
from cokv_bench.budgets.fingerprint import check_replaced
from cokv_bench.budgets.head_curves import HeadCurves
from cokv_bench.exports.request import Request, Written
from cokv_bench.files import write_text
from cokv_bench.policies.deployed import kept_by_all

#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("layers", "a JSON list with the mean tokens per KV head of each layer, for one budget", "write")


def layer_budgets(tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """The mean tokens per KV head of each layer, in whole numbers.

    Args:
        tokens: int64 [layers, kv_heads], window included.

    Returns:
        int64 [layers]; times the KV heads they are the total of `tokens`, exactly where the KV heads divide it as they
        do in every file but one with the published rounding.
    """
    total = round(int(tokens.sum()) / tokens.shape[1])
    return apportion(tokens.sum(axis=1), total, cap=total)


def write(request: Request) -> Written:
    """Write NAME-layers-BUDGET.json, a JSON list of integers.

    Raises:
        RequestError: several budgets were asked for, or a prompt where none matters, the file cannot have the budget,
            the list there is of another number of layers, or it cannot be written.
    """
    curves = isinstance(request.file, HeadCurves)
    if not curves:
        request.refuse("layers", "prompt")
    budget = request.one_budget("layers")
    knobs = {"prompt": request.prompt_tokens} if curves else {}
    tokens = request.file.tokens_at(budget, window=kept_by_all(request.file).tokens, knobs=knobs)
    layers = layer_budgets(tokens)
    path = request.target(f"-layers-{budget}.json")
    check_replaced(path, request.file.model)
    there = json_at(path)
    # A list names no model.
    request.refuse_other(path, len(there) if isinstance(there, list) else None, len(layers), "layers:")
    write_text(path, json.dumps(layers.tolist()) + "\n")
    change = np.abs(tokens - layers[:, None])
    note = (
        f"The layers keep {layers.min()} to {layers.max()} tokens per KV head, {int(layers.sum()) * tokens.shape[1]} "
        f"in all where the head file asks for {tokens.sum()}; a head's tokens change by {change.mean():.1f} on average."
    )
    of_prompt = (f"They are those of a prompt of {request.prompt_tokens} tokens (--prompt).",) if curves else ()
    return Written(path, (note, *of_prompt))
