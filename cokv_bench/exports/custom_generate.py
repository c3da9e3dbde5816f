"""A `custom_generate` folder: transformers generates from a compressed cache, without this package.

transformers copies `custom_generate/generate.py` alone into its cache of remote code, so the numbers stand in that file
as well as in `heads.json`.
"""

import json
from collections.abc import Callable, Mapping
from importlib import resources
from pprint import pformat
from typing import Any

from cokv_bench.budgets.fingerprint import check_replaced
from cokv_bench.budgets.head_curves import HeadCurves
from cokv_bench.budgets.head_file import HeadFile
from cokv_bench.budgets.head_shares import HeadShares
from cokv_bench.errors import RequestError
from cokv_bench.exports.request import Request, Written
from cokv_bench.files import write_folder
from cokv_bench.policies.deployed import kept_by_all
from cokv_bench.policies.policy import Policy
from cokv_bench.policies.scorers.fading import NARROWEST, WIDEST, FadingQueries
from cokv_bench.policies.scorers.window_attention import WindowAttention
from cokv_bench.registries import METHODS
from cokv_bench.runs.methods import MethodSettings
from cokv_bench.runs.sources import StaticBudgets

#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = (
    "transformers",
    "a custom_generate folder: model.generate from a compressed cache with transformers alone",
    "write",
)

#: The line of the program that the numbers replace.
_DECLARED = "HEADS: dict[str, Any] = "
_EMPTY = f"{_DECLARED}{{}}\n"
#: What the program requires; the first release of transformers that this project is tested with.
_REQUIREMENTS = "torch>=2.9\ntransformers>=5.10\n"
#: Generated tokens per head that the program makes room for at a time.
ROOM = 32


def _of_window(scorer: Any) -> dict[str, Any]:
    return {"name": "window", "kernel": scorer.kernel, "pooling": scorer.pooling, "queries": scorer.queries}


def _of_fading(scorer: Any) -> dict[str, Any]:
    own = {"half": scorer.half, "phrase": scorer.phrase, "width": scorer.width}
    return {"name": "fading", **own, "narrowest": NARROWEST, "widest": WIDEST}


#: The rankings that the program knows, and how it is told their options.
_RANKINGS: Mapping[type[Any], Callable[[Any], dict[str, Any]]] = {
    WindowAttention: _of_window,
    FadingQueries: _of_fading,
}


def policy_of(file: HeadFile) -> Policy:
    """The method that a head file serves, as `cokv-bench eval` runs it where no option and no knobs say otherwise.

    Raises:
        RequestError: the file is for a ranking that there is not.
    """
    method = file.method if file.method is not None and file.method in METHODS else "cokv"

    def tokens(budget: int, *, window: int, knobs: Mapping[str, Any]) -> Any:
        return file.tokens_at(budget, window=window, knobs=knobs)

    return MethodSettings().policy(method, StaticBudgets(tokens, {}, (), (), file.ranking))


def heads_of(request: Request) -> dict[str, Any]:
    """What the program has to know, as JSON has it.

    Raises:
        RequestError: curves, a hybrid model, a ranking that the program does not know, or a budget that the file cannot
            have.
    """
    file, path = request.file, request.path
    if isinstance(file, HeadCurves):
        raise RequestError(
            f"{path} holds shares of a prompt, and an export to 'transformers' counts tokens; export budgets, values, "
            "scores or shares, or the curves with --to kvpress."
        )
    if "evicted_layers" in file.model:
        raise RequestError(
            f"{path} is for a model of which only some layers are evicted, and an export to 'transformers' evicts all; "
            "use cokv_bench.generate for it."
        )
    policy = policy_of(file)
    describe = _RANKINGS.get(type(policy.scorer))
    if describe is None:
        raise RequestError(
            f"{path} ranks tokens by '{file.ranking.get('scorer')}', which an export to 'transformers' does not know; "
            "it knows window and fading: search again with --ranking window or --ranking fading."
        )
    held, observe = kept_by_all(file), policy.observe
    ranking = {"window": held.window, "sinks": held.sinks, "observe": observe or held.window, **describe(policy.scorer)}
    budgets = request.several_budgets()
    for budget in budgets:
        policy.check_budget(budget, held.window)
    heads = {
        "model": {key: file.model.get(key) for key in ("id", "layers", "kv_heads", "head_dim", "weights")},
        "ranking": ranking,
        "default_budget": budgets[0],
    }
    if isinstance(file, HeadShares):
        return {**heads, "knots": list(file.knots), "log_shares": file.tables.tolist()}
    tables = {str(budget): file.tokens_at(budget, window=held.tokens).tolist() for budget in budgets}
    return {**heads, "tokens": tables}


def program(heads: Mapping[str, Any]) -> str:
    """The text of generate.py with these numbers in it."""
    text = (resources.files("cokv_bench.exports.programs") / "generate.py").read_text(encoding="utf-8")
    before, empty, after = text.partition(_EMPTY)
    assert empty, "the program has no place for the numbers"
    return f"{before}{_DECLARED}{pformat(dict(heads), width=118, compact=True, sort_dicts=False)}\n{after}"


def write(request: Request) -> Written:
    """Write the folder NAME-transformers.

    Raises:
        RequestError: a prompt was asked for, see `heads_of`, the folder is of another model, or it cannot be written.
    """
    request.refuse("transformers", "prompt")
    heads = heads_of(request)
    path = request.target("-transformers")
    check_replaced(path / "heads.json", request.file.model)
    files = {
        "README.md": _readme(heads),
        "heads.json": json.dumps(heads, indent=1) + "\n",
        "custom_generate/generate.py": program(heads),
        "custom_generate/requirements.txt": _REQUIREMENTS,
    }
    write_folder(path, {name: text.encode() for name, text in files.items()})
    any_budget = "any budget" if "knots" in heads else f"the budgets {', '.join(heads['tokens'])}"
    note = (
        f"It serves {any_budget} above {heads['ranking']['window'] + heads['ranking']['sinks']} tokens: "
        f"model.generate(**inputs, custom_generate='{path}', trust_remote_code=True, budget={heads['default_budget']})."
    )
    return Written(path, (note,))


def _readme(heads: Mapping[str, Any]) -> str:
    model, ranking, budget = heads["model"], heads["ranking"], heads["default_budget"]
    at = "any budget" if "knots" in heads else f"these budgets: {', '.join(heads['tokens'])}"
    options = ", ".join(f"{name} {value}" for name, value in ranking.items() if name != "name" and value is not None)
    per_token = 2 * model["head_dim"] * model["layers"] * model["kv_heads"]
    return _README.format(
        **{key: model[key] for key in ("id", "layers", "kv_heads")},
        budget=budget,
        at=at,
        ranking=ranking["name"],
        options=options,
        room=ROOM,
        values=f"{per_token * budget:,}",
        values_of_4096=f"{per_token * 4096:,}",
    )


_README = """---
library_name: transformers
license: apache-2.0
tags:
- custom_generate
---
# A KV cache with a budget for each head

This folder makes `generate` answer from a compressed KV cache. It is for {id} ({layers} layers x {kv_heads} KV heads).
Each KV head keeps its own number of prompt tokens, and on average a head keeps exactly `budget` of them.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(MODEL)
tokenizer = AutoTokenizer.from_pretrained(MODEL)
inputs = tokenizer(LONG_PROMPT, return_tensors="pt")
ids = model.generate(
    **inputs, custom_generate=FOLDER, trust_remote_code=True, budget={budget}, do_sample=False, max_new_tokens=64
)
```

`FOLDER` is this folder or its hub repository. The budget counts prompt tokens, the window included. It is {budget} by
default, and the numbers here serve {at}. A prompt that is no longer than the budget is kept whole.

You need transformers 5.10 or later (below 6) and PyTorch. The program compares the shape of the model with that of the
budgets. It cannot see whether the weights are those that the budgets were made for.

## What it does
The model's own forward pass reads the prompt at once. As soon as a layer has read it, each of its heads keeps the last
tokens, which are its window, and the tokens that it ranks best. The rest is freed.

The ranking is `{ranking}` ({options}).

Then transformers' own loop decodes, so sampling, streamers and stopping criteria work. Generated tokens are kept.

## What memory it saves
- The cache holds what is kept of the prompt, one piece for each head, and the generated tokens, with room for up to
  {room} more per head. At a budget of {budget} the kept part has {values} numbers; the full cache of a prompt of 4096
  tokens has {values_of_4096}.
- While the prompt is read, one layer at a time is held in full. Weights and hidden states take what they always take,
  so the peak while reading falls only by the caches of the other layers.
- Decoding calls attention once for each KV head. For short prompts and small models this is slower than plain
  `generate`.

## What it does not do
It serves one prompt without padding at a time: no beams, no `num_return_sequences`, no assistant model. Models with
sliding windows, capped logits or attention sinks are refused. Nothing is evicted during decoding.

`heads.json` has the numbers. `custom_generate/generate.py` has them too, because transformers loads that file alone.
"""
