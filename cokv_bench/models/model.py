"""A causal language model with its tokenizer and the few numbers that the rest of the project needs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.models.checkpoint import weights_hash
from cokv_bench.models.identity import template_hash, tokenizer_hash
from cokv_bench.models.rotary import rotary_factors
from cokv_bench.models.support import context_of
from cokv_bench.models.template import ChatTemplate


@dataclass(frozen=True)
class Model:
    """A loaded decoder.

    Attributes:
        name: what the user asked for: an embedded name, a folder, a GGUF file or a hub id.
        network: the transformers `...ForCausalLM`, in evaluation mode, with this project's attention.
        tokenizer: its tokenizer, or None where the folder has none (token ids in, token ids out).
        files: safetensors files that the weights came from; none for a network made in memory.
        ignored_generation_settings: what the checkpoint's generation config sets beside plain greedy decoding, such as
            a repetition penalty, by name. Evaluation leaves it out, and so does `network.generate`.
    """

    name: str
    network: Any
    tokenizer: Any | None
    files: tuple[Path, ...] = ()
    ignored_generation_settings: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def folder_name(self) -> str:
        """The name without what stands before it, for folders of results: of "." that of the folder itself.

        Of a GGUF file it is the name without its suffix.
        """
        return Path(os.path.abspath(os.path.expanduser(self.name))).name.removesuffix(".gguf")

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
        """The most tokens that prompt and answer may have together, see `context_of`."""
        return context_of(self.config)

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
        """What tells one model's files from another's: id, shape, and a hash of a sample of the weights.

        The hash is that of the checkpoint, in whatever dtype it is loaded.
        """
        return {
            "id": self.name,
            "layers": self.layers,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "weights": weights_hash(self.network, self.files),
        }

    @cached_property
    def reading(self) -> dict[str, Any]:
        """What decides, beside the weights, how a text is read: hashes of tokenizer and chat template, and the rope.

        Hashes are None where there is nothing to hash.
        """
        return {
            "tokenizer": None if self.tokenizer is None else tokenizer_hash(self.tokenizer),
            "chat_template": None if self.template is None else template_hash(self.template),
            "rope": dict(getattr(self.config, "rope_parameters", None) or {}),
        }

    @property
    def text_tokenizer(self) -> Any:
        """The tokenizer, or a `RequestError` where there is none."""
        if self.tokenizer is None:
            raise RequestError(f"Model '{self.name}' has no tokenizer, and text needs one; add its tokenizer files.")
        return self.tokenizer

    @cached_property
    def template(self) -> ChatTemplate | None:
        """The chat template, or None where there is none."""
        if self.tokenizer is None or self.tokenizer.chat_template is None:
            return None
        return ChatTemplate(self.tokenizer, self.name)

    @cached_property
    def closing_tokens(self) -> int:
        """How many special tokens, such as an EOS, the tokenizer puts after a text unless told not to."""
        framed, bare = (self.text_tokenizer("a", add_special_tokens=special).input_ids for special in (True, False))
        fits = (start for start in range(len(framed)) if framed[start : start + len(bare)] == bare)
        return len(framed) - len(bare) - next(fits, len(framed) - len(bare))

    def text(self, token_ids: list[int]) -> str:
        """Decoded text without special tokens; empty where the model has no tokenizer."""
        return "" if self.tokenizer is None else self.tokenizer.decode(token_ids, skip_special_tokens=True)

    def hidden(self, token_ids: Tensor, first_position: int, cache: Any, length: int = 0) -> Tensor:
        """Last hidden states [rows, new, width] of new tokens [rows, new] that continue at `first_position`.

        Args:
            length: of the whole text, whose rotary factors are used; at least what has been read with these tokens.
        """
        end = first_position + token_ids.shape[1]
        positions = torch.arange(first_position, end, device=self.device)[None].expand(token_ids.shape[0], -1)
        return self.read(token_ids.to(self.device), positions, cache, [max(length, end)])

    def read(self, token_ids: Tensor, positions: Tensor, cache: Any, lengths: Sequence[int]) -> Tensor:
        """Last hidden states [rows, new, width] of new tokens [rows, new] at any positions [rows, new].

        The layers are called one by one, because the decoder itself would choose rotary factors by the positions at
        hand and not by the whole text.

        Args:
            lengths: of each row's whole text, in tokens, or one for all rows; above every position of the row.
        """
        decoder = self.network.get_decoder()
        hidden = decoder.embed_tokens(token_ids)
        factors = rotary_factors(decoder, hidden, positions, lengths)
        for layer in decoder.layers:
            hidden = layer(
                hidden,
                attention_mask=None,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                position_embeddings=factors,
            )
        states: Tensor = decoder.norm(hidden)
        return states

    def logits(self, hidden: Tensor) -> Tensor:
        """float32 logits [..., vocabulary] of hidden states [..., width]."""
        return self.network.get_output_embeddings()(hidden).float()
