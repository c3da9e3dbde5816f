"""Hashes of what makes token ids of text: files and results say with which tokenizer and template they were made."""

import hashlib
from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.models.template import ChatTemplate

# White space at the ends and in the middle, cases, digits and letters beyond ASCII: what normalisers treat differently.
_TEXT = "  A prompt's text, 1,234 words;\tÄÖ ﬁ 河\n\n  with two blank lines \n"


def tokenizer_hash(tokenizer: Any) -> str:
    """16 hex digits of a transformers tokenizer: of its serialised backend, or of its vocabulary where it has none.

    The ids and the decoded text of a fixed text go in as well: what a tokenizer's class does around its backend.
    """
    # Encoding first sets truncation and padding as every prompt has them; they are part of what is serialised.
    ids = tokenizer(_TEXT, truncation=False, padding=False).input_ids
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = [
        repr(sorted(tokenizer.get_vocab().items())) if backend is None else backend.to_str(),
        repr(ids),
        tokenizer.decode(ids, skip_special_tokens=True),
    ]
    return _hash("\0".join(parts))


def template_hash(template: ChatTemplate) -> str | None:
    """16 hex digits of a fixed conversation as the template writes it; None where it writes none at all."""
    try:
        return _hash(template.render(_TEXT))
    except RequestError:
        return None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
