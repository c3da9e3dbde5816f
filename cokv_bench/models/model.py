"""A causal language model with its tokenizer and the few numbers that the rest of the project needs."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cokv_bench.errors import RequestError


@dataclass(frozen=True)
class Model:
    """A loaded decoder.

    Attributes:
        name: what the user asked for: an embedded name, a folder or a hub id.
        network: the transformers `...ForCausalLM`, in evaluation mode, with this project's attention.
        tokenizer: its tokenizer, or None where the folder has none (token ids in, token ids out).
    """

    name: str
    network: Any
    tokenizer: Any | None

    @property
    def config(self) -> Any:
        return self.network.config

    @property
    def layers(self) -> int:
        return int(self.config.num_hidden_layers)

    @property
    def heads(self) -> int:
        """Query heads a layer."""
        return int(self.config.num_attention_heads)

    @property
    def kv_heads(self) -> int:
        return int(getattr(self.config, "num_key_value_heads", None) or self.heads)

    @property
    def head_dim(self) -> int:
        return int(getattr(self.config, "head_dim", None) or self.config.hidden_size // self.heads)

    @property
    def context(self) -> int:
        """The most tokens that prompt and answer may have together."""
        return int(self.config.max_position_embeddings)

    @property
    def device(self) -> torch.device:
        """Where token ids go in."""
        return self.network.get_input_embeddings().weight.device

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token of one KV head takes: a key and a value."""
        return 2 * self.head_dim * self.network.dtype.itemsize

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer, from the generation config."""
        ids = self.network.generation_config.eos_token_id
        if ids is None:
            return frozenset()
        return frozenset([ids] if isinstance(ids, int) else ids)

    @cached_property
    def newline_ids(self) -> frozenset[int]:
        """The id that a lone newline ends with (LongBench's samsum stops there)."""
        return frozenset(self.text_tokenizer.encode("\n", add_special_tokens=False)[-1:])

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What tells one model's files from another's: id, shape, and a hash of a sample of the weights."""
        digest = hashlib.sha256()
        for key, tensor in self.network.state_dict().items():
            digest.update(key.encode())
            digest.update(tensor.flatten()[:8].to("cpu", torch.float32).numpy().tobytes())
        return {
            "id": self.name,
            "layers": self.layers,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "weights": digest.hexdigest()[:16],
        }

    @property
    def text_tokenizer(self) -> Any:
        """The tokenizer, or a `RequestError` where there is none."""
        if self.tokenizer is None:
            raise RequestError(f"Model '{self.name}' has no tokenizer, and text needs one; add its tokenizer files.")
        return self.tokenizer

    def text(self, token_ids: list[int]) -> str:
        """Decoded text without special tokens; empty where the model has no tokenizer."""
        return "" if self.tokenizer is None else self.tokenizer.decode(token_ids, skip_special_tokens=True)

    def hidden(self, token_ids: Tensor, first_position: int, cache: Any) -> Tensor:
        """Last hidden states [rows, new, width] of new tokens [rows, new] that continue at `first_position`."""
        positions = torch.arange(first_position, first_position + token_ids.shape[1], device=self.device)
        output = self.network.get_decoder()(
            input_ids=token_ids.to(self.device),
            position_ids=positions[None].expand(token_ids.shape[0], -1),
            past_key_values=cache,
            use_cache=True,
        )
        return output.last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """float32 logits [..., vocabulary] of hidden states [..., width]."""
        return self.network.get_output_embeddings()(hidden).float()
