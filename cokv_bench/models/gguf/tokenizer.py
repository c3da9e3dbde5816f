"""The tokenizer and chat template of a GGUF file, and the tokens that end an answer."""

import json
import warnings
from pathlib import Path
from typing import Any

from cokv_bench.errors import Notice
from cokv_bench.files import write_text
from cokv_bench.models.gguf.header import Header

# Control tokens that end an answer, by the names that models give them. The file names one of them, or two; the
# checkpoint's own generation config, which is not in the file, names them all.
_STOPS = frozenset(
    {
        "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>",
        "<turn|>", "<|return|>", "<|call|>", "<|END_OF_TURN_TOKEN|>",
    }
)  # fmt: skip
_STOP_SETTINGS = ("eos_token_id", "eot_token_id", "eom_token_id")
# Ways to split a text before byte pairs are merged (`tokenizer.ggml.pre`). Of the first kind a word that is a token
# stays whole, and BOS goes before a text unless the file says otherwise.
_LIKE_LLAMA3 = frozenset(
    {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken"}
)
# Those whose merges give the same tokens if a text is split as GPT-2 does it, which is what transformers falls back on.
_LIKE_GPT2 = frozenset({"gpt-2", "phi-2", "mpt", "olmo", "smollm", "starcoder", "refact", "command-r", "exaone"})
_OWN_CLASS = ("qwen2", "qwen3")


def write_tokenizer(header: Header, target: Path, shown: str) -> None:
    """Write the tokenizer of a GGUF file, with its chat template, into a folder in transformers' format.

    A `Notice` says where a text may be split in other places than the model's own tokenizer does it.

    Args:
        shown: the model's name, for notices.
    """
    from transformers import AutoTokenizer

    values = header.values
    way = values.get("tokenizer.ggml.pre")
    puts_bos = values.get("tokenizer.ggml.add_bos_token")
    if puts_bos is None:
        puts_bos = values.get("tokenizer.ggml.model") == "llama" or way in _LIKE_LLAMA3
    tokenizer = AutoTokenizer.from_pretrained(
        header.path.parent, gguf_file=header.path.name, add_bos_token=bool(puts_bos)
    )
    tokenizer.save_pretrained(target)
    path = target / "tokenizer.json"
    write_text(path, json.dumps(_corrected(json.loads(path.read_text(encoding="utf-8")), header), ensure_ascii=False))
    if values.get("tokenizer.ggml.model") == "gpt2" and not _splits(header.architecture, way):
        warnings.warn(
            f"{shown} splits its texts as '{way}', which transformers does not read from GGUF files: some texts may "
            "have other tokens than with the model's own tokenizer.",
            Notice,
            stacklevel=2,
        )


def stop_ids(header: Header) -> set[int]:
    """The tokens that end an answer: those that the file names, and those whose names say so."""
    named = {header.values.get(f"tokenizer.ggml.{key}") for key in _STOP_SETTINGS}
    special = header.special_tokens()
    stops = {index for token, index in special.items() if token in _STOPS}
    if "<|return|>" in special:
        # gpt-oss ends each of an answer's parts with <|end|>.
        stops.discard(special.get("<|end|>", -1))
    return stops | {index for index in named if type(index) is int}


def _corrected(content: dict[str, Any], header: Header) -> dict[str, Any]:
    """The content of tokenizer.json as the file has it."""
    # transformers adds special tokens of the tokenizer's class, for which the model has no embedding.
    size = len(header.values["tokenizer.ggml.tokens"])
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < size]
    if header.values.get("tokenizer.ggml.pre") in _LIKE_LLAMA3:
        content["model"]["ignore_merges"] = True
    return content


def _splits(architecture: str, way: Any) -> bool:
    """Whether transformers splits texts in that way."""
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS as read
    except ImportError:  # Earlier releases read none.
        read = {}
    return way in _LIKE_GPT2 or way in read or (way in _OWN_CLASS and architecture.startswith(_OWN_CLASS))
