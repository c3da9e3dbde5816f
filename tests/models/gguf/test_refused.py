"""GGUF files that are damaged, or would be another model, are refused in one sentence."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cokv_bench.errors import RequestError
from cokv_bench.models.gguf.header import read_header
from tests.models.gguf_files import TOKENS, refusal, write

pytestmark = pytest.mark.filterwarnings("ignore::cokv_bench.errors.Notice")


@pytest.mark.parametrize(
    ("settings", "tensors", "words"),
    [
        ({"general.architecture": "made-up"}, {}, "architecture made-up is not supported"),
        ({"llama.context_length": None}, {}, "lacks the setting 'llama.context_length'"),
        ({"llama.block_count": None}, {}, "lacks the setting 'llama.block_count'"),
        ({f"{TOKENS}tokens": None}, {}, "lacks the setting 'tokenizer.ggml.tokens'"),
        ({"llama.attention.head_count": 0}, {}, "has 0 as its setting 'llama.attention.head_count'"),
        ({"llama.context_length": 0}, {}, "'llama.context_length', which must be a number above 0"),
        ({"llama.block_count": "many"}, {}, "has 'many' as its setting 'llama.block_count'"),
        ({"llama.rope.freq_base": math.inf}, {}, "'llama.rope.freq_base', which must be a finite number"),
        ({"llama.attention.layer_norm_rms_epsilon": math.nan}, {}, "epsilon', which must be a finite number"),
        ({f"{TOKENS}merges": None}, {}, "there is no 'scores'"),
        ({f"{TOKENS}model": "rwkv"}, {}, "rwkv"),
        ({"llama.block_count": 4}, {}, "lack model.layers.3"),
        ({"llama.feed_forward_length": 32}, {}, "do not fit"),
        ({"llama.attention.scale": 0.5}, {}, "'llama.attention.scale' is not read here"),
        ({"llama.rope.scaling.type": "longrope"}, {}, "rope.scaling.type = longrope"),
        ({"llama.rope.dimension_count": 8}, {}, "do not fit"),
        ({"llama.attention.key_length": 8}, {}, "'llama.rope.dimension_count' is not read here"),
        ({"llama.attention.value_length": 8}, {}, "'llama.attention.value_length' is not read here"),
        ({"llama.attention.head_count_kv": [2, 2, 1]}, {}, "num_key_value_heads"),
        ({"general.type": "adapter"}, {}, "holds no model but 'adapter'"),
        ({"split.count": 3}, {}, "one of 3 parts"),
        ({}, {"blk.0.attn_q.bias": np.ones(96, np.float32)}, "has 96 weights that transformers has no place for"),
        (
            {},
            {"rope_freqs.weight": np.linspace(1, 3, 8, dtype=np.float32)},
            "'llama.rope_freqs.weight' is not read here",
        ),
    ],
)
def test_what_would_be_another_model_is_refused(
    tmp_path: Path, llama: Path, cache: Path, settings: dict[str, Any], tensors: dict[str, np.ndarray], words: str
) -> None:
    found = refusal(write(llama, tmp_path / "tiny.gguf", settings=settings, tensors=tensors))
    assert words in found
    assert "tiny.gguf" in found
    assert not [path for path in cache.rglob("*") if path.is_dir() and path.parent == cache / "gguf"]


def test_files_that_are_cut_short(tmp_path: Path, file: Path) -> None:
    whole = file.read_bytes()
    header = min(tensor.start for tensor in read_header(file, "tiny").tensors.values())
    cut = tmp_path / "cut.gguf"
    for length in (0, 3, 4, 7, 8, 20, *range(24, header, header // 40), header, (header + len(whole)) // 2):
        cut.write_bytes(whole[:length])
        with pytest.raises(RequestError, match=r"not a GGUF file|cut short"):
            read_header(cut, "cut")
    assert f"has {len(whole) // 2:,} of {len(whole):,} bytes; download it again" in (
        cut.write_bytes(whole[: len(whole) // 2]) and refusal(cut)
    )


def test_headers_with_any_byte_changed_are_read_or_refused(tmp_path: Path, file: Path) -> None:
    whole = file.read_bytes()
    header = min(tensor.start for tensor in read_header(file, "tiny").tensors.values())
    chance = np.random.default_rng(0)
    changed = tmp_path / "changed.gguf"
    refused = 0
    for place in [*range(4, 64), *chance.integers(64, header, 200)]:
        content = bytearray(whole)
        content[place] ^= int(chance.integers(1, 256))
        changed.write_bytes(content)
        try:
            read_header(changed, "changed")
        except RequestError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (b"PK\x03\x04 a checkpoint of another kind", "is not a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
        (b"GGUF\x01\x00\x00\x00" + bytes(40), "has version 1 of the format"),
        (b"GGUF\x00\x00\x00\x03" + bytes(40), "of the other byte order"),
    ],
)
def test_other_files(tmp_path: Path, begin: bytes, words: str) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(begin)
    assert words in refusal(path)


def test_a_file_that_does_not_say_what_it_is(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "nameless.gguf"
    path.write_bytes(file.read_bytes().replace(b"general.architecture", b"general.architectura"))
    assert "lacks the setting 'general.architecture'" in refusal(path)


def test_tensors_in_a_format_of_the_future(tmp_path: Path, file: Path) -> None:
    content = file.read_bytes()
    name = b"output_norm.weight"
    # After the name: one dimension, its length, and the number of the format.
    place = content.index(name) + len(name) + 4 + 8
    path = tmp_path / "future.gguf"
    path.write_bytes(content[:place] + (99).to_bytes(4, "little") + content[place + 4 :])
    assert "output_norm.weight in a format (ggml type 99)" in refusal(path)
