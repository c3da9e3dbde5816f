"""Two classes of heads in the files of DuoAttention (arXiv 2410.10819): some keep all, the others sinks and a window.

Its loader (`load_attn_pattern` of mit-han-lab/duo-attention) reads a folder with `full_attention_heads.tsv`, a number
from 0 to 1 for each KV head in a row for each layer, and `config.json` with `sink_size` and `recent_size`.
"""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets.apportion import apportion
from cokv_bench.budgets.checked_json import json_at
from cokv_bench.errors import RequestError
from cokv_bench.exports.request import Request, Written
from cokv_bench.files import write_folder
from cokv_bench.policies.deployed import kept_by_all

#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = (
    "duo",
    "DuoAttention's folder: which KV heads keep the whole prompt, for a budget and prompt length",
    "write",
)

#: First tokens that a streaming head keeps, as the split `two-class`.
SINKS = 4


@dataclass(frozen=True)
class TwoClasses:
    """Heads in two classes.

    Attributes:
        full: bool [layers, kv_heads], the heads that keep the whole prompt.
        recent: last tokens that the others keep in addition to `SINKS` first ones.
        prompt: tokens of the prompt.
    """

    full: NDArray[np.bool_]
    recent: int
    prompt: int

    @property
    def tokens(self) -> NDArray[np.int64]:
        """int64 [layers, kv_heads], what each head keeps of the prompt."""
        return np.where(self.full, self.prompt, SINKS + self.recent).astype(np.int64)


def two_classes(tokens: NDArray[np.int64], *, prompt: int, recent: int) -> TwoClasses:
    """Round the tokens of heads to two classes with nearly the same total and never more.

    As many heads as the total affords keep the whole prompt, those with most tokens first and of equal ones the lower
    index. What is left over, which is less than another full head, lengthens the window of all streaming heads.

    Args:
        tokens: int64 [layers, kv_heads], window included.
        prompt: tokens of the prompt.
        recent: tokens that the window of a streaming head has at least.

    Raises:
        RequestError: the total does not hold the streaming heads, or not one full head, or it holds every head in full,
            or the prompt is too short for a full head to keep more than the others.
    """
    heads, total = tokens.size, int(tokens.sum())
    budget, least = total / heads, SINKS + recent
    short = RequestError(
        f"A prompt of {prompt} tokens is too short for two classes, of which one keeps {SINKS} first and {recent} "
        f"recent ones; use a --prompt of {least + 2} tokens or more."
    )
    if prompt <= least:
        raise short
    if total >= prompt * heads:
        raise RequestError(
            f"A budget of {budget:.6g} tokens per head holds a prompt of {prompt} tokens in full, so there are no two "
            "classes; lower --budget or raise --prompt."
        )
    many = max(total - least * heads, 0) // (prompt - least)
    if many < 1:
        # A budget that suffices for one full head would hold a prompt that is one token longer in all heads.
        if prompt == least + 1:
            raise short
        needed = least + -(-(prompt - least) // heads)
        shorter = ", or a lower --prompt" if budget > least else ""
        raise RequestError(
            f"A budget of {budget:.6g} tokens per head leaves no head the whole prompt of {prompt} tokens once the "
            f"others keep {SINKS} first and {recent} recent ones; use --budget {needed} or more{shorter}."
        )
    full = np.zeros(heads, dtype=bool)
    full[np.argsort(-tokens, axis=None, kind="stable")[:many]] = True
    longer = (total - many * prompt) // (heads - many) - SINKS
    return TwoClasses(full.reshape(tokens.shape), int(longer), prompt)


def write(request: Request) -> Written:
    """Write the folder NAME-duo-BUDGET and tell what rounding to two classes changes.

    Raises:
        RequestError: several budgets were asked for, see `two_classes`, the folder is of another model, or it
            cannot be written.
    """
    budget = request.one_budget("duo")
    prompt = request.prompt_tokens
    kept = kept_by_all(request.file)
    held = kept.tokens
    asked = request.file.tokens_at(budget, window=held, knobs={"prompt": prompt})
    classes = two_classes(asked, prompt=prompt, recent=kept.window)
    # No head can keep more than the prompt: what the budget means for a prompt of this length.
    beyond = apportion(np.maximum(asked - held, 0), int(asked.sum()) - held * asked.size, cap=prompt - held)
    path, name = request.target(f"-duo-{budget}"), request.file.model["id"]
    there = json_at(path / "config.json")
    request.refuse_other(path, there.get("model_name") if isinstance(there, dict) else None, name, "named")
    table = "".join("\t".join(f"{cell:.1f}" for cell in row) + "\n" for row in classes.full.astype(float))
    config = {"sink_size": SINKS, "recent_size": classes.recent}
    write_folder(
        path,
        {
            "full_attention_heads.tsv": table.encode(),
            "config.json": (json.dumps({**config, "model_name": name}) + "\n").encode(),
        },
    )
    return Written(path, _told(classes, held + beyond))


def _told(classes: TwoClasses, asked: NDArray[np.int64]) -> tuple[str, ...]:
    kept, full, heads = classes.tokens, int(classes.full.sum()), classes.full.size
    missing = int(asked.sum() - kept.sum())
    difference = f"{missing} fewer ({missing / heads:.2f} per head)" if missing else "exactly as many"
    return (
        f"{full} of {heads} heads keep the whole prompt of {classes.prompt} tokens; the others keep {SINKS} first and "
        f"{classes.recent} recent tokens. In DuoAttention's terms the sparsity is {1 - full / heads:.6f}.",
        f"Rounding to two classes keeps {kept.sum()} tokens where the head file asks for {asked.sum()}: {difference}. "
        f"A head's tokens change by {np.abs(kept - asked).mean():.1f} on average.",
    )
