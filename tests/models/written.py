"""Tiny models with tokenizers of two kinds, saved for the tests of loading and of text."""

import json
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tests.conftest import save_tiny

# Enough text for tokens of several letters; the words of the tests are in it.
TEXTS = [
    "The boat was on the river, and the stone stood by the old gate.",
    "Where was the boat? The answer is: by the stone, on the hill road.",
    "    return stone\n    return boat\n",
] * 4
CHAT = (
    "{{ bos_token }}{% for m in messages %}<|user|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# Ends in a line break and has no special token before the answer, as Zephyr's.
PLAIN_CHAT = "{% for m in messages %}[user]\n{{ m['content'] }}</s>\n{% endfor %}[assistant]\n"
_SPECIAL = ["<unk>", "<s>", "</s>"]


def byte_level(template: Any = CHAT, *, closing: str = "") -> Any:
    """A byte-level BPE tokenizer that puts <s> before a text, and `closing` after it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [*_SPECIAL, "<|user|>", "<|assistant|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<s> $A {closing}".strip(), special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = template
    return fast


def sentencepiece(template: Any = PLAIN_CHAT) -> Any:
    """A BPE tokenizer with byte fallback and a space before each text, as Llama 2's and Mistral's."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    texts = [text.replace("\n", " ") for text in TEXTS]
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=360, special_tokens=special, show_progress=False)
    )
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    llama = transformers.LlamaTokenizer(vocab=model["vocab"], merges=merges, add_bos_token=True)
    llama.chat_template = template
    return llama


def save(folder: Path, tokenizer: Any, kind: str = "llama", **changes: Any) -> Path:
    """A tiny decoder with that tokenizer."""
    save_tiny(kind, folder, **{"vocab_size": 400, **changes})
    tokenizer.save_pretrained(folder)
    return folder


def change(path: Path, **values: Any) -> None:
    """Set fields of a JSON file; None removes one."""
    content = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
