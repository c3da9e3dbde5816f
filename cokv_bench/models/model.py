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
from cokv_bench.models.head import Head
from cokv_bench.models.identity import template_hash, tokenizer_hash
from cokv_bench.models.rotary import rotary_factors
from cokv_bench.models.support import context_of, evicted_layers, keeps_states, text_config
from cokv_bench.models.template import ChatTemplate


@dataclass
class Verdict:
    """What `cokv_bench.kvcache.check` has found out about a model.

    Attributes:
        lean: whether its layers may be called one by one with this project's rotary factors, which keeps one layer's
            cache at a time; otherwise the decoder is called as a whole.
        reached: whether it has been checked; until then the decoder is called as a whole.
        unrotates: whether its queries before rotary are known; None until somebody asks.
    """

    lean: bool = False
    reached: bool = False
    unrotates: bool | None = None


@dataclass(frozen=True)
class Model:
    """A loaded decoder.

    Its layers are those that attend to all of the text, which eviction is about; a hybrid network has others between
    them, whose numbers do not count here.

    Attributes:
        name: what the user asked for: an embedded name, a folder, a GGUF file or a hub id.
        network: the transformers `...ForCausalLM`, in evaluation mode, with this project's attention.
        tokenizer: its tokenizer, or None where the folder has none (token ids in, token ids out).
        files: safetensors files that the weights came from; none for a network made in memory.
        ignored_generation_settings: what the checkpoint's generation config sets beside plain greedy decoding, such as
            a repetition penalty, by name. Evaluation leaves it out, and so does `network.generate`.
        skip_check: run it without comparing it with plain transformers first.
        verdict: how it is run.
    """

    name: str
    network: Any
    tokenizer: Any | None
    files: tuple[Path, ...] = ()
    ignored_generation_settings: dict[str, Any] = field(default_factory=dict, compare=False)
    skip_check: bool = field(default=False, compare=False)
    verdict: Verdict = field(default_factory=Verdict, compare=False, repr=False)

    @property
    def folder_name(self) -> str:
        """The name without what stands before it, for folders of results: of "." that of the folder itself.

        Of a GGUF file it is the name without its suffix.
        """
        return Path(os.path.abspath(os.path.expanduser(self.name))).name.removesuffix(".gguf")

    @property
    def config(self) -> Any:
        """Of the decoder, without what a checkpoint for images or sound has around it."""
        return text_config(self.network.config)

    @cached_property
    def decoder(self) -> Any:
        """The network's part between embeddings and last hidden states."""
        found = self.network.get_decoder()
        # Some classes name their decoder as none of those that `get_decoder` looks for.
        return found if hasattr(found, "layers") else getattr(found, "model", found)

    @property
    def layers(self) -> int:
        """Layers that attend to all of the text."""
        return len(self.evicted_layers)

    @cached_property
    def evicted_layers(self) -> tuple[int, ...]:
        """The numbers of these layers in the network."""
        return evicted_layers(self.config)

    @cached_property
    def hybrid(self) -> bool:
        """Whether layers hold something of a text that is not evicted."""
        return self.layers != self.network_layers or keeps_states(self.config)

    @property
    def network_layers(self) -> int:
        """Layers of any kind."""
        return int(self.config.num_hidden_layers)

    @cached_property
    def _layer_config(self) -> Any:
        """Of a layer that is evicted, where layers differ."""
        of_layers = getattr(self.config, "per_layer_config", None)
        return self.config if of_layers is None else of_layers[self.evicted_layers[0]]

    @property
    def heads(self) -> int:
        """Query heads a layer."""
        return int(self._layer_config.num_attention_heads)

    @property
    def kv_heads(self) -> int:
        return int(getattr(self._layer_config, "num_key_value_heads", None) or self.heads)

    @property
    def head_dim(self) -> int:
        return int(getattr(self._layer_config, "head_dim", None) or self.config.hidden_size // self.heads)

    @property
    def inner_width(self) -> int:
        """Inner width of the MLP that a token goes through, of all its experts together."""
        config = self.config
        experts = getattr(config, "num_experts_per_tok", None)
        width = getattr(config, "moe_intermediate_size", None) if experts else None
        if width is None:
            width = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
        return int(width * (experts or 1))

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
            # Of a hybrid, which layers of the network are counted above.
            **({} if self.layers == self.network_layers else {"evicted_layers": list(self.evicted_layers)}),
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

        Where the model is run lean, its layers are called one by one, because the decoder itself would choose rotary
        factors by the positions at hand and not by the whole text.

        Args:
            lengths: of each row's whole text, in tokens, or one for all rows; above every position of the row.
        """
        if not self.verdict.lean:
            return self.decoder_states(token_ids, positions, cache)
        decoder = self.decoder
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

    def decoder_states(self, token_ids: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """`read` by the decoder's own forward pass, which knows best what stands between its layers."""
        found = self.decoder(input_ids=token_ids, position_ids=positions, past_key_values=cache, use_cache=True)
        states: Tensor = found.last_hidden_state
        return states

    def logits(self, hidden: Tensor) -> Tensor:
        """float32 logits [..., vocabulary] of hidden states [..., width]."""
        if self.verdict.lean:
            return self.network.get_output_embeddings()(hidden).float()
        return self._head(hidden).float()

    @cached_property
    def _head(self) -> Head:
        return Head(self.network, self.decoder)
