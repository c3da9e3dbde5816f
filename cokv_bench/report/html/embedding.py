"""Data inside a page: nothing in it can end its element or be run."""

import base64
import gzip
import html
import json
from typing import Any

#: Characters of JSON above which it is packed.
_LARGE = 1_000_000
#: A script element ends at "</script"; inside JSON strings these escapes mean the characters themselves.
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def safe_json(document: Any) -> str:
    """JSON in ASCII (lone surrogates too, which UTF-8 cannot hold) without the characters that HTML reads."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text


def data_element(name: str, document: Any) -> str:
    """A script element of data with that id; large data is gzip in base64, as `data-encoding` says."""
    text = safe_json(document)
    if len(text) <= _LARGE:
        return f'<script type="application/json" id="{name}">{text}</script>'
    packed = base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()
    return f'<script type="application/octet-stream" id="{name}" data-encoding="gzip">{packed}</script>'


def text(content: object) -> str:
    """Text as HTML shows it, also inside attributes."""
    return html.escape(str(content).encode("utf-8", "replace").decode())
