"""LU-KV's curves of pruned shares (arXiv 2602.08585), as kvpress's `LUKVPress` and LU-KV's own code read them."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets.apportion import apportion
from cokv_bench.budgets.head_curves import PERCENTS, PROMPT, HeadCurves
from cokv_bench.budgets.head_file import HeadFile
from cokv_bench.errors import RequestError
from cokv_bench.exports.request import Request, Written
from cokv_bench.files import write_bytes
from cokv_bench.policies.deployed import kept_by_all

#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = (
    "kvpress",
    "the pruned share of each head at 1 to 99 percent, [99, layers, KV heads], as .npy (LUKVPress of kvpress)",
    "write",
)


def write(request: Request) -> Written:
    """Write the curves as NAME.npy.

    Raises:
        RequestError: a budget was asked for, the curves there are of another shape, or see `write_curves`.
    """
    request.refuse("kvpress", "budget")
    path, model = request.target(".npy"), request.file.model
    # An array names no model.
    request.refuse_other(path, _heads_there(path), (model["layers"], model["kv_heads"]), "layers and KV heads")
    write_curves(request.file, path, prompt=request.prompt_tokens)
    return Written(path)


def _heads_there(path: Path) -> tuple[int, ...] | None:
    """Layers and KV heads of the curves in a file; None where there are none."""
    try:
        shape = np.lib.format.open_memmap(path, mode="r").shape
    except (OSError, ValueError):
        return None
    return shape[1:] if len(shape) == 3 else None


def pruned_shares(file: HeadFile, *, prompt: int = PROMPT, window: int | None = None) -> NDArray[np.float64]:
    """The share of a prompt that each head prunes at 1 to 99 percent pruned in all.

    Curves are what they are. Any other file counts tokens, which become shares of a prompt of one length; a file for
    one budget splits every total in its own proportions. No head keeps more than the prompt.

    Args:
        prompt: tokens of the prompt.
        window: what every head keeps, protected first tokens included; default as `kept_by_all` has it, which is also
            that of a file for one budget.

    Returns:
        float64 [99, layers, kv_heads]; the mean of row i is i + 1 percent to within half a token of all heads together.

    Raises:
        RequestError: a prompt that is not above what every head keeps.
    """
    if isinstance(file, HeadCurves):
        return file.pruned
    own = kept_by_all(file)
    width = own.tokens if window is None or file.only_budget is not None else window
    if prompt <= width:
        also = f" and the {own.sinks} protected first tokens" if own.sinks else ""
        raise RequestError(
            f"A prompt of {prompt} tokens is not above the window of {width - own.sinks}{also}; name a longer one."
        )
    heads = file.model["layers"] * file.model["kv_heads"]
    rows = []
    for percent in range(1, PERCENTS + 1):
        total = round(prompt * heads * (100 - percent) / 100)
        budget = file.only_budget or max(round(total / heads), width + 1)
        beyond = file.tokens_at(budget, window=width) - width
        # A total that does not hold everybody's window is split evenly.
        held = min(width, total // heads)
        kept = held + apportion(beyond, total - held * heads, cap=prompt - held)
        rows.append(1 - kept / prompt)
    return np.stack(rows)


def write_curves(file: HeadFile, path: Path, *, prompt: int = PROMPT) -> None:
    """Write `pruned_shares` as a .npy file of float64, in one step.

    Raises:
        RequestError: see `pruned_shares`, or the file cannot be written.
    """
    stream = io.BytesIO()
    np.save(stream, pruned_shares(file, prompt=prompt), allow_pickle=False)
    write_bytes(path, stream.getvalue())
