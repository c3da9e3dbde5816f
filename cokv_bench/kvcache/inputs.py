"""What callers give: token ids, and a prompt with the model that is to read it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cokv_bench.errors import RequestError, quoted
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.models.model import Model


def one_row(token_ids: Sequence[int] | Tensor) -> Tensor:
    """Ids [tokens] or [1, tokens] as int64 [tokens] on the CPU.

    Raises:
        RequestError: several rows, or what is no whole number.
    """
    try:
        ids = torch.as_tensor(token_ids, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        raise RequestError(f"Token ids are whole numbers in a row, not {quoted(token_ids)}.") from None
    if ids.ndim == 0:
        raise RequestError(f"Token ids are whole numbers in a row, not {quoted(token_ids)}.")
    if ids.numel() and (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool):
        raise RequestError(f"Token ids are whole numbers, and these are {ids.dtype}.")
    if ids.ndim != 1 and ids.shape[:-1].numel() != 1:
        raise RequestError(
            f"Token ids of one text are expected, and these have the shape {list(ids.shape)}; give one row."
        )
    # The caller may use its tensor for something else.
    return ids.reshape(-1).to(torch.long, copy=True)


def check_ids(model: Model, ids: Tensor) -> None:
    """Raise `RequestError` where some id is none of the model's."""
    vocabulary = model.network.get_input_embeddings().num_embeddings
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= vocabulary):
        raise RequestError(f"Token ids must be from 0 to {vocabulary - 1}; were they made by another tokenizer?")


def check_read_by(model: Model, prompt: Prompt) -> None:
    """Refuse a prompt that another model has prefilled. Raises `RequestError`."""
    if prompt.model is not None and prompt.model.network is not model.network:
        raise RequestError(
            f"The prompt was prefilled by '{prompt.model.name}' and is decoded by another model, '{model.name}'; "
            "prefill it again."
        )
