"""The header of a GGUF file: its settings and tensors, without their values."""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from cokv_bench.errors import RequestError, quoted

_MAGIC = b"GGUF"
_POINTER = b"version https://git-lfs"
# Version 1 counted in 32 bits, and llama.cpp reads it no longer either.
_VERSIONS = (2, 3)
_ALIGNMENT = 32
_STRING, _ARRAY = 8, 9
# Value types of the format's specification by number, as `struct` writes them.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
#: Token types of the vocabulary: control tokens such as <|im_end|>, and those that users have added.
CONTROL, ADDED = 3, 4


@dataclass(frozen=True)
class Tensor:
    """A tensor's entry: dimensions (fastest first), number of its ggml type, where its bytes begin in the file."""

    dimensions: tuple[int, ...]
    kind: int
    start: int

    @property
    def elements(self) -> int:
        return prod(self.dimensions)


@dataclass(frozen=True)
class Header:
    """What a GGUF file says about its model.

    Attributes:
        values: the metadata by key, arrays as lists.
        tensors: by name.
    """

    path: Path
    values: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def architecture(self) -> str:
        return str(self.values["general.architecture"])

    @property
    def settings(self) -> dict[str, Any]:
        """The architecture's own metadata, by key without its prefix."""
        prefix = f"{self.architecture}."
        return {key.removeprefix(prefix): value for key, value in self.values.items() if key.startswith(prefix)}

    @property
    def elements(self) -> int:
        """How many numbers all tensors have together."""
        return sum(tensor.elements for tensor in self.tensors.values())

    def special_tokens(self) -> dict[str, int]:
        """Ids of the tokens that the vocabulary marks as control tokens or as added ones."""
        tokens = self.values["tokenizer.ggml.tokens"]
        kinds = self.values.get("tokenizer.ggml.token_type", ())
        return {
            token: index
            for index, (token, kind) in enumerate(zip(tokens, kinds, strict=False))
            if kind in (CONTROL, ADDED)
        }


class _DamagedError(Exception):
    """The bytes are no header; the message is the end of a sentence."""


def read_header(path: Path, shown: str) -> Header:
    """Read the header of a GGUF file and see whether the file has all the bytes that it speaks of.

    Args:
        shown: the model's name, for errors.

    Raises:
        RequestError: the file cannot be read, is something else, damaged or cut short, or a part of a split model.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(len(_POINTER))
            if begin == _POINTER:
                raise _DamagedError("is a Git LFS pointer, not the model; run `git lfs pull` or download it again")
            if not begin.startswith(_MAGIC):
                raise _DamagedError("is not a GGUF file; name one, or the folder of a model in transformers' format")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header = _header(path, data)
    except OSError as error:
        raise RequestError(f"'{shown}' cannot be read ({error.strerror or error}).") from error
    except _DamagedError as error:
        raise RequestError(f"'{shown}' {error}.") from None
    kind, parts = header.values.get("general.type", "model"), header.values.get("split.count", 1)
    if kind != "model":
        raise RequestError(f"'{shown}' holds no model but {quoted(kind)}; name the model's own file.")
    if parts not in (0, 1):
        raise RequestError(
            f"'{shown}' is one of {parts} parts, which transformers cannot read; join them with "
            "`llama-gguf-split --merge FIRST_PART WHOLE.gguf` and name the result."
        )
    return header


class _Reader:
    """Reads the header's values one after the other, and never beyond the end."""

    def __init__(self, data: mmap.mmap, at: int) -> None:
        self._data, self.at = data, at

    def number(self, kind: str) -> Any:
        return self._numbers(kind, 1)[0]

    def text(self) -> str:
        length = self.number("Q")
        return self._bytes(length).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            raise _DamagedError(f"is damaged: its header has a value of type {kind}; download it again")
        of, count = self.number("I"), self.number("Q")
        if of in _NUMBERS:
            return list(self._numbers(_NUMBERS[of], count))
        if of != _STRING:
            raise _DamagedError(f"is damaged: its header has an array of type {of}; download it again")
        return [self.text() for _ in range(count)]

    def _numbers(self, kind: str, count: int) -> tuple[Any, ...]:
        size = struct.calcsize(f"<{kind}")
        return struct.unpack(f"<{count}{kind}", self._bytes(size * count))

    def _bytes(self, count: int) -> bytes:
        if count > len(self._data) - self.at:
            raise _cut()
        self.at += count
        return self._data[self.at - count : self.at]


def _cut() -> _DamagedError:
    return _DamagedError("is damaged or cut short in its header; download it again")


def _header(path: Path, data: mmap.mmap) -> Header:
    reader = _Reader(data, len(_MAGIC))
    version = reader.number("I")
    if version not in _VERSIONS:
        order = ", or it is written for processors of the other byte order" if version & 0xFFFF == 0 else ""
        raise _DamagedError(f"has version {version} of the format{order}; convert it with today's llama.cpp")
    tensors, settings = reader.number("Q"), reader.number("Q")
    values: dict[str, Any] = {}
    for _ in range(settings):
        key = reader.text()
        values[key] = reader.value(reader.number("I"))
    table = [_entry(reader) for _ in range(tensors)]
    alignment = values.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or alignment < 1:
        raise _DamagedError("is damaged: its alignment is no positive number; download it again")
    start = -(-reader.at // alignment) * alignment
    found = {name: Tensor(dimensions, kind, start + offset) for name, dimensions, kind, offset in table}
    end = max((tensor.start + _size(name, tensor) for name, tensor in found.items()), default=0)
    if end > len(data):
        raise _DamagedError(f"is cut short: it has {len(data):,} of {end:,} bytes; download it again")
    return Header(path, values, found)


def _entry(reader: _Reader) -> tuple[str, tuple[int, ...], int, int]:
    name = reader.text()
    dimensions = tuple(reader.number("Q") for _ in range(reader.number("I")))
    return name, dimensions, reader.number("I"), reader.number("Q")


def _size(name: str, tensor: Tensor) -> int:
    """Bytes of a tensor in the file."""
    import gguf

    try:
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(tensor.kind)]
    except (ValueError, KeyError):
        raise _DamagedError(
            f"holds {name:.40} in a format (ggml type {tensor.kind}) that gguf does not know; upgrade gguf, or take "
            "another quantisation"
        ) from None
    return tensor.elements // block * size
