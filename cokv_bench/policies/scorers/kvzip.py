"""Reconstruction: what a model looks at that repeats the prompt word for word (KVzip, arXiv 2505.23416)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from cokv_bench.errors import RequestError

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt
    from cokv_bench.models import Model
    from cokv_bench.models.form import Form


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = (
    "kvzip",
    "what is looked at while the prompt is repeated, two more prefills (KVzip, arXiv 2505.23416)",
    "Reconstruction",
)

# What a reader that is to repeat the prompt is told; the authors' requests say the same in other words.
_ALL = "\n\nRepeat the text above word for word.\n"
_GOING_ON = "\n\nRepeat the text above word for word, from where it says:"
#: Tokens that end the part before and tell a reader where to begin.
_CUE = 8
#: A shorter part would mostly read its own request.
_LEAST = 64


@dataclass(frozen=True)
class Reconstruction:
    """Asks for the prompt once more, reads it as the answer, and scores each token by the most attention it then gets.

    Long prompts are repeated in parts, each after a request of its own and at the positions that follow the prompt. A
    part's tokens are scored by the queries of its own repetition: softmaxed over the first tokens, the part, and what
    has been read of the repetition; then the maximum over the queries and the group.

    Attributes:
        sinks: first tokens that come before all others; the authors never evict the system prompt.
        part: the most tokens that are repeated at a time; fewer where the model's context leaves less room.
    """

    #: The whole prompt is read on from, not a layer of it.
    reads_on: ClassVar[bool] = True
    sinks_first: ClassVar[bool] = True

    sinks: int = 4
    part: int = 2000

    def __post_init__(self) -> None:
        if self.sinks < 0:
            raise RequestError(f"The number of sink tokens must be 0 or more, not {self.sinks}.")
        if self.part < 1:
            raise RequestError(f"At least one token is repeated at a time, not {self.part}.")

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt.

        Raises:
            RequestError: the prompt does not know its model, that has no tokenizer, or the prompt fills its context.
        """
        # Two or three prefills' work that no window changes.
        if self not in prompt.shared:
            prompt.shared[self] = self._received(prompt)
        before = max(prompt.tokens - prompt.window, 0)
        return [layer[:, :before] for layer in prompt.shared[self]]

    def _received(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens] a layer."""
        # On first use: rankings are listed without transformers.
        from cokv_bench.kvcache.reading import listen

        model = prompt.reader("Ranking 'kvzip'")
        scores = [torch.zeros(keys.shape[:2], device=keys.device) for keys in prompt.keys]
        for start, end, text in self._parts(model, prompt):

            def hear(layer: int, queries: Tensor, own: Tensor, start: int = start, end: int = end) -> None:
                keys, sinks = prompt.keys[layer], min(self.sinks, start)
                seen = torch.cat([keys[:, :sinks], keys[:, start:end], own[0]], dim=1)
                received = most_received(queries[0], seen, prompt.form(layer))[:, sinks : sinks + end - start]
                scores[layer][:, start:end] = scores[layer][:, start:end].maximum(received)

            listen(model, prompt, text, hear)
        for layer in scores:
            layer[:, : self.sinks] = 1.0  # The most that attention can be; of equal scores the first token wins.
        return scores

    def _parts(self, model: "Model", prompt: "Prompt") -> list[tuple[int, int, list[int]]]:
        """From where to where each part goes, and the ids that are read for it."""
        from cokv_bench.kvcache.reading import room_after

        tokenizer, ids = model.text_tokenizer, prompt.token_ids.tolist()
        whole, going_on = (tokenizer.encode(text, add_special_tokens=False) for text in (_ALL, _GOING_ON))
        room = room_after(model, prompt)
        size = min(self.part, room - max(len(whole), len(going_on) + _CUE))
        if size < min(self.part, len(ids), _LEAST):
            raise RequestError(
                f"Ranking 'kvzip' reads a prompt a second time after itself, and beyond this one of {len(ids)} tokens "
                f"'{model.name}' has room for {room}; use shorter prompts."
            )
        parts = []
        for start in range(0, len(ids), size):
            end = min(start + size, len(ids))
            request = [*going_on, *ids[max(start - _CUE, 0) : start]] if start else whole
            parts.append((start, end, [*request, *ids[start:end]]))
        return parts


def most_received(queries: Tensor, keys: Tensor, form: "Form | float") -> Tensor:
    """The most attention that each key gets from any query of its group, float32 [kv_heads, tokens].

    Args:
        queries: [heads, new, dim], of the last tokens; keys: [kv_heads, tokens, dim] with the new tokens last.
        form: how dot products become weights, or just the factor on them.
    """
    from cokv_bench.kvcache.received import attention_blocks

    most = keys.new_zeros(keys.shape[:2], dtype=torch.float32)
    for attention in attention_blocks(queries, keys, form):
        end = attention.shape[2]
        most[:, :end] = most[:, :end].maximum(attention.amax(dim=1))
    return most
