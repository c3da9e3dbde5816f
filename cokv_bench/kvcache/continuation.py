"""Going on from a compressed prompt: others' turns are read, the model's are written, and the prompt never again."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cokv_bench.checks import check_count
from cokv_bench.errors import RequestError
from cokv_bench.kvcache.compress import Compressed
from cokv_bench.kvcache.decode import Generation, stepper
from cokv_bench.kvcache.graph import GraphStep
from cokv_bench.kvcache.inputs import check_ids, one_row
from cokv_bench.kvcache.ragged import RaggedCache
from cokv_bench.models.finite import not_finite
from cokv_bench.models.model import Model

# Tokens of a turn that are read at a time.
_CHUNK = 512


class Continuation:
    """A text whose beginning was compressed.

    On a GPU steps are replayed as CUDA graphs where that is possible, see `GraphStep`.

    Attributes:
        token_ids: of the whole text.
        cache: of all of it but what has not been read yet: the last token that was written, and turns since.
    """

    def __init__(self, model: Model, token_ids: Sequence[int], compressed: Compressed) -> None:
        """
        Args:
            token_ids: of the compressed prompt.

        Raises:
            RequestError: the cache has several rows or is continued already, or the prompt another number of tokens.
        """
        rows = len(compressed.cache.evicted[0].lengths)
        if len(token_ids) != compressed.tokens or rows != 1:
            raise RequestError(
                f"A text of {len(token_ids)} tokens cannot continue from a cache of {compressed.tokens} tokens and "
                f"{rows} rows; give the ids of the prompt that was compressed, with one row."
            )
        self._model, self._logits = model, compressed.logits
        self.token_ids: list[int] = list(token_ids)
        self.cache: RaggedCache = compressed.cache
        self._read = compressed.tokens
        self._check_alone()
        self._advance: Callable[[Tensor, int], Tensor] | None = None

    def read(self, token_ids: Sequence[int]) -> None:
        """Add a turn of somebody else's to the text. Raises `RequestError` for ids that the model does not have."""
        ids = one_row(token_ids)
        check_ids(self._model, ids)
        self.token_ids += ids.tolist()

    @torch.inference_mode()
    def write(self, max_new_tokens: int, *, something: bool = False) -> Generation:
        """Add the most likely tokens to the text, up to one that ends an answer, which is not added.

        Args:
            something: let no token that ends an answer come first.

        Returns:
            What was added, that last token included.

        Raises:
            RequestError: no tokens asked for or more than the model's context has room for, a cache that something else
                has read on in, logits that are not finite, or see `RaggedCache` (longrope).
        """
        model = self._model
        check_count(max_new_tokens, 1, "An answer")
        if len(self.token_ids) + max_new_tokens > model.context:
            raise RequestError(
                f"A text of {len(self.token_ids)} tokens and {max_new_tokens} new ones exceed the context of "
                f"'{model.name}', {model.context} tokens; ask for less."
            )
        self._check_alone()
        self._catch_up()
        # A short answer is not worth a capture; a longer one after it may be.
        if not isinstance(self._advance, GraphStep):
            self._advance = stepper(model, self.cache, 1, max_new_tokens, len(self.token_ids))
        ids: list[int] = []
        banned = list(model.stop_ids) if something else []
        while True:
            token = self._most_likely(banned if not ids else [])
            ids.append(token)
            if token in model.stop_ids:
                break
            self.token_ids.append(token)
            if len(ids) == max_new_tokens:
                break
            states = self._advance(torch.tensor([[token]]), self._read)
            self._read += 1
            self._logits = model.logits(states)[0]
        return Generation(ids, model.text(ids))

    def _check_alone(self) -> None:
        """Refuse a cache that holds another text than this one."""
        more = self.cache.evicted[0].get_seq_length() - self._read
        if more:
            raise RequestError(
                f"The cache of this compressed prompt has {abs(more)} tokens of another continuation; compress the "
                "prompt again for each text that follows it."
            )

    def _catch_up(self) -> None:
        """Read what has been added since the last answer's tokens."""
        ids = torch.tensor([self.token_ids[self._read :]], dtype=torch.long)
        for part in ids.split(_CHUNK, dim=1):
            if part.shape[1]:
                states = self._model.hidden(part, self._read, self.cache, len(self.token_ids))
                self._read += part.shape[1]
                self._logits = self._model.logits(states[:, -1])[0]

    def _most_likely(self, banned: Sequence[int]) -> int:
        logits = self._logits.clone()
        logits[list(banned)] = float("-inf")
        best = logits.argmax()
        peak, token = torch.stack([logits[best], best.float()]).tolist()
        if not math.isfinite(peak):
            raise not_finite(self._model, "logits", " while it answers")
        return int(token)
