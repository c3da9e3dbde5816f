"""Models from GGUF files: the same as their checkpoint, converted once, or refused in one sentence."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from cokv_bench.errors import Notice, RequestError
from cokv_bench.kvcache import prefill
from cokv_bench.models import Model, load_model
from cokv_bench.models.conversion import convert_once
from cokv_bench.models.gguf import convert as conversion
from cokv_bench.models.gguf.config import complete
from cokv_bench.models.gguf.header import Header, read_header
from cokv_bench.models.gguf.tokenizer import stop_ids
from tests.conftest import random_ids
from tests.models.gguf_files import SIZES, plain, write
from tests.models.written import byte_level, sentencepiece

TEXT = "  Where was the boat?  1,234 ÄÖ\n\n    return <|end|> don't"
TOKENS = "tokenizer.ggml."
pytestmark = pytest.mark.filterwarnings("ignore::cokv_bench.errors.Notice")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COKV_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama in transformers' format."""
    return plain("llama", tmp_path_factory.mktemp("gguf") / "llama")


@pytest.fixture(scope="module")
def file(llama: Path) -> Path:
    """Its GGUF file."""
    return write(llama, llama.parent / "tiny-llama.gguf")


def load(path: Path | str, **options: Any) -> Model:
    return load_model(str(path), device="cpu", **options)


def refusal(path: Path | str, **options: Any) -> str:
    with pytest.raises(RequestError) as error:
        load(path, **options)
    found = str(error.value)
    assert len(found) <= 400
    assert found.endswith((".", "gguf"))
    return found


def logits(model: Model, ids: list[int]) -> torch.Tensor:
    return model.network(torch.tensor([ids])).logits


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {"tie_word_embeddings": False}),
        ("llama", {"tie_word_embeddings": True, "rms_norm_eps": 1e-3}),
        ("qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
        ("phi3", {}),
        # Its head size is neither its width over its heads nor the 128 of the config class.
        ("qwen3", {"head_dim": 24, "max_position_embeddings": 1024}),
    ],
)
def test_a_file_is_its_checkpoint(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    source = plain(kind, tmp_path / "plain", **changes)
    expected, found = load(source), load(write(source, tmp_path / "tiny.gguf"))
    ids = random_ids(60)
    assert torch.equal(logits(found, ids), logits(expected, ids))
    assert torch.equal(prefill(found, ids).logits, prefill(expected, ids).logits)
    assert found.fingerprint["weights"] == expected.fingerprint["weights"]
    assert (found.context, found.head_dim, found.kv_heads) == (expected.context, expected.head_dim, expected.kv_heads)
    assert found.reading["rope"] == expected.reading["rope"]
    assert found.reading["chat_template"] == expected.reading["chat_template"]
    assert found.folder_name == "tiny"
    assert found.ignored_generation_settings == {}


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (
            transformers.Gemma3TextConfig(
                **SIZES, num_hidden_layers=7, num_key_value_heads=1, head_dim=32, sliding_window=64,
                query_pre_attn_scalar=32,
            ),
            {"gemma3.attention.value_length": 32, "gemma3.attention.sliding_window": 64},
        ),
        (
            transformers.Qwen3MoeConfig(
                **SIZES, num_hidden_layers=2, num_key_value_heads=2, head_dim=16, num_experts=6, num_experts_per_tok=3,
                moe_intermediate_size=32, norm_topk_prob=True,
            ),
            {
                "qwen3moe.expert_count": 6,
                "qwen3moe.expert_used_count": 3,
                "qwen3moe.expert_feed_forward_length": 32,
            },
        ),
    ],
)  # fmt: skip
def test_hybrids_and_mixtures_of_experts(tmp_path: Path, config: Any, settings: dict[str, Any]) -> None:
    config.update({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.3})
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "plain")
    byte_level().save_pretrained(tmp_path / "plain")
    file = write(tmp_path / "plain", tmp_path / "tiny.gguf", settings=settings)
    ids = torch.tensor([random_ids(150)])
    expected, found = (
        transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits
        for folder in (tmp_path / "plain", conversion.converted_folder(file, "tiny"))
    )
    # llama.cpp adds one to Gemma's norms, and taking it off again rounds.
    assert (found - expected).abs().max() < 1e-3


@pytest.mark.parametrize(("layers", "divisor"), [(62, 16), (48, 32)])
def test_what_gemma_divides_queries_by(layers: int, divisor: int) -> None:
    """By the head's size, and in the model of 27 billion weights by the width per head; no setting says so."""
    config = transformers.Gemma3TextConfig(**SIZES, num_hidden_layers=layers, head_dim=8, query_pre_attn_scalar=256)
    settings = {"context_length": 512, "block_count": layers, "embedding_length": 96, "attention.key_length": 32}
    values = {f"gemma3.{key}": value for key, value in {**settings, "attention.head_count": 6}.items()}
    complete(config, Header(Path(), {"general.architecture": "gemma3", **values}, {}), None, "tiny")
    assert config.query_pre_attn_scalar == divisor


def test_quantised_weights_are_the_numbers_that_they_stand_for(tmp_path: Path, llama: Path) -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    found = load(write(llama, tmp_path / "q8.gguf", quantized=kind))
    rounded = shutil.copytree(llama, tmp_path / "rounded")
    weights = {
        name: torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(tensor.numpy(), kind), kind))
        if tensor.ndim == 2
        else tensor
        for name, tensor in load_file(llama / "model.safetensors").items()
    }
    save_file(weights, rounded / "model.safetensors", metadata={"format": "pt"})
    ids = random_ids(40)
    assert torch.equal(logits(found, ids), logits(load(rounded), ids))
    assert not torch.equal(logits(found, ids), logits(load(llama), ids))
    assert found.fingerprint["weights"] == load(rounded).fingerprint["weights"]


@pytest.mark.parametrize("bos", [True, False])
def test_texts_have_the_tokens_of_the_checkpoint(tmp_path: Path, llama: Path, bos: bool) -> None:
    expected = load(llama).tokenizer
    found = load(write(llama, tmp_path / "tiny.gguf", settings={f"{TOKENS}add_bos_token": bos})).tokenizer
    ids = expected(TEXT).input_ids
    assert found(TEXT).input_ids == (ids if bos else ids[1:])
    assert found.decode(ids, skip_special_tokens=True) == expected.decode(ids, skip_special_tokens=True)
    # A special token of the tokenizer's class for which the model has no embedding.
    assert max(found("<|endoftext|>").input_ids) < 360


@pytest.mark.parametrize(("told", "bos"), [(True, True), (False, False), (None, True)])
def test_texts_of_a_sentencepiece_vocabulary(tmp_path: Path, told: bool | None, bos: bool) -> None:
    source = plain("llama", tmp_path / "plain", tokenizer=sentencepiece())
    expected = load(source).tokenizer
    content = json.loads((source / "tokenizer.json").read_text())["model"]
    tokens = sorted(content["vocab"], key=content["vocab"].__getitem__)
    ranks = {"".join(merge): float(-index) for index, merge in enumerate(content["merges"])}
    kinds = {"<unk>": 2, "<s>": 3, "</s>": 3, **{f"<0x{byte:02X}>": 6 for byte in range(256)}}
    unused = [f"[PAD{index}]" for index in range(len(tokens), 360)]
    settings = {
        f"{TOKENS}model": "llama",
        f"{TOKENS}pre": "default",
        f"{TOKENS}tokens": tokens + unused,
        f"{TOKENS}scores": [ranks.get(token, -1000.0) for token in tokens + unused],
        f"{TOKENS}token_type": [kinds.get(token, 1) for token in tokens] + [5] * len(unused),
        f"{TOKENS}merges": None,
        f"{TOKENS}unknown_token_id": 0,
        f"{TOKENS}add_bos_token": told,
        "tokenizer.chat_template": expected.chat_template,
    }
    found = load(write(source, tmp_path / "tiny.gguf", settings=settings))
    ids = expected(TEXT).input_ids
    assert found.tokenizer(TEXT).input_ids == (ids if bos else ids[1:])
    assert found.template is not None


def test_llama_3_keeps_whole_words_and_begins_with_bos(tmp_path: Path, llama: Path) -> None:
    settings = {f"{TOKENS}pre": "llama-bpe", f"{TOKENS}add_bos_token": None}
    found = load(write(llama, tmp_path / "tiny.gguf", settings=settings)).tokenizer
    assert found("boat").input_ids[0] == 1
    assert json.loads(found.backend_tokenizer.to_str())["model"]["ignore_merges"]


def test_a_way_of_splitting_that_is_not_known_is_said(tmp_path: Path, llama: Path) -> None:
    with pytest.warns(Notice, match="splits its texts as 'new-way'"):
        load(write(llama, tmp_path / "tiny.gguf", settings={f"{TOKENS}pre": "new-way"}))


@pytest.mark.parametrize(
    ("tokens", "settings", "stops"),
    [
        (["<s>", "</s>"], {"eos_token_id": 1}, {1}),
        (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], {"eos_token_id": 2}, {0, 2}),
        (
            ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>", "<turn>"],
            {"eos_token_id": 0, "eot_token_id": 3},
            {0, 1, 2, 3},
        ),
        (["<|return|>", "<|end|>", "<|call|>"], {"eos_token_id": 0}, {0, 2}),
        (["<eos>", "<end_of_turn>"], {}, {1}),
    ],
)
def test_which_tokens_end_an_answer(tokens: list[str], settings: dict[str, int], stops: set[int]) -> None:
    values = {
        f"{TOKENS}tokens": [*tokens, "<|end|>, as plain text", "<|im_end|>"],
        f"{TOKENS}token_type": [3] * len(tokens) + [1, 1],
        **{f"{TOKENS}{key}": value for key, value in settings.items()},
    }
    assert stop_ids(Header(Path(), values, {})) == stops


def test_answers_end_at_all_of_them(file: Path) -> None:
    # </s> is what the file names, and <|end|> is a control token of its vocabulary.
    assert load(file).stop_ids == {2, 5}


def llama3_frequencies(factor: float, base: float = 10000.0, size: int = 16) -> np.ndarray:
    """Divisors of the rotary frequencies, by transformers' own function."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_type": "llama3", "rope_theta": base, "factor": factor, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    config = transformers.LlamaConfig(head_dim=size, rope_parameters=rope, max_position_embeddings=131072)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1.0 / base ** (torch.arange(0, size, 2) / size)
    return (plain / scaled).numpy().astype(np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama_3_stretches_its_rotary_embedding(tmp_path: Path, factor: float) -> None:
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": factor, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    source = plain("llama", tmp_path / "plain", rope_parameters=rope, max_position_embeddings=131072)
    tensors = {"rope_freqs.weight": llama3_frequencies(factor)}
    assert 1.0 < tensors["rope_freqs.weight"][-2] < tensors["rope_freqs.weight"][-1] == factor
    found, expected = load(write(source, tmp_path / "tiny.gguf", tensors=tensors)), load(source)
    assert found.reading["rope"] == expected.reading["rope"]
    assert found.context == 131072
    assert torch.equal(logits(found, random_ids(300)), logits(expected, random_ids(300)))


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_other_scalings_of_the_rotary_embedding(tmp_path: Path, kind: str) -> None:
    rope = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
    source = plain("qwen2", tmp_path / "plain", rope_parameters=rope)
    settings = {"type": kind, "factor": 4.0, "original_context_length": 128}
    file = write(
        source, tmp_path / "tiny.gguf", settings={f"qwen2.rope.scaling.{key}": value for key, value in settings.items()}
    )
    ids = random_ids(300)
    assert torch.equal(logits(load(file), ids), logits(load(source), ids))
    assert load(file).context == load(source).context


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
        with pytest.raises(RequestError, match=r"no GGUF file|cut short"):
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
        (b"PK\x03\x04 a checkpoint of another kind", "is no GGUF file"),
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


def test_a_folder_with_one_file_and_one_with_two(tmp_path: Path, file: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(file, folder / "tiny-Q8_0.gguf")
    (folder / "mmproj-tiny.gguf").write_bytes(b"the image encoder")
    assert load(folder).folder_name == "folder"
    shutil.copy(file, folder / "tiny-F16.gguf")
    found = refusal(folder)
    assert "holds 2 GGUF files (tiny-F16.gguf, tiny-Q8_0.gguf)" in found
    assert f"'{folder}/tiny-F16.gguf'" in found
    assert load(folder / "tiny-Q8_0.gguf").folder_name == "tiny-Q8_0"


def test_a_folder_of_a_split_model(tmp_path: Path, llama: Path) -> None:
    for part in (1, 2):
        settings = {"split.count": 2, "split.no": part - 1}
        write(llama, tmp_path / "parts" / f"tiny-0000{part}-of-00002.gguf", settings=settings)
    assert "is one of 2 parts" in refusal(tmp_path / "parts")


def test_weights_in_safetensors_come_before_a_file_beside_them(tmp_path: Path, llama: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "both")
    (folder / "tiny.gguf").write_bytes(b"not looked at")
    assert load(folder).files == (folder / "model.safetensors",)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for name in (
        tmp_path / "none.gguf",
        "none.gguf",
        "./none.gguf",
        "~/none.gguf",
        "/no/such/none.gguf",
        "a/none.gguf",
    ):
        assert f"There is no file '{name}'." in refusal(name)
    assert "cannot be had from the hub" in refusal("nobody/nothing/none.gguf")


@pytest.mark.parametrize("name", ["x" * 5000, "x/" * 2000, "no\0name", "~nobody-of-that-name/model.gguf"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(RequestError) as error:
        load(name)
    assert len(str(error.value)) <= 400


def test_a_cache_that_is_only_read(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = load(file).fingerprint["weights"]
    (known,) = (cache / "gguf").glob("known-*")
    known.unlink()

    def refuse(*_: object) -> None:
        raise RequestError("It cannot be written.")

    monkeypatch.setattr(conversion, "write_text", refuse)
    assert load(file).fingerprint["weights"] == weights


def test_hub_repositories_without_a_hub(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was downloaded loads by its repository's name, with a network or without."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--someone--tiny-GGUF"
    for commit in ("0" * 40, "1" * 40):
        (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "refs" / "both").write_text("1" * 40)
    shutil.copy(file, repository / "snapshots" / ("0" * 40) / "tiny-Q8_0.gguf")
    for name in ("tiny-Q8_0.gguf", "tiny-F16.gguf"):
        shutil.copy(file, repository / "snapshots" / ("1" * 40) / name)
    only = load("someone/tiny-GGUF")
    assert only.folder_name == "tiny-GGUF"
    named = load("someone/tiny-GGUF/tiny-F16.gguf", revision="both")
    assert named.fingerprint["weights"] == only.fingerprint["weights"]
    assert "'someone/tiny-GGUF/tiny-F16.gguf'" in refusal("someone/tiny-GGUF", revision="both")
    assert "no file 'someone/tiny-GGUF/tiny-F16.gguf'" in refusal("someone/tiny-GGUF/tiny-F16.gguf")


def test_a_file_is_converted_and_read_through_once(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Path] = []
    real = conversion.convert
    monkeypatch.setattr(conversion, "convert", lambda path, *rest: done.append(path) or real(path, *rest))
    first = load(file)
    assert len(done) == 1
    copy = shutil.copy(file, tmp_path / "renamed.gguf")
    assert load(copy).fingerprint["weights"] == first.fingerprint["weights"]
    assert len(done) == 1
    monkeypatch.setattr(conversion, "file_sha256", lambda path: pytest.fail("the whole file was read again"))
    load(file)
    assert len(done) == 1


def test_a_file_that_has_changed_is_converted_again(tmp_path: Path, llama: Path, cache: Path) -> None:
    path = write(llama, tmp_path / "tiny.gguf")
    first = load(path)
    content = bytearray(path.read_bytes())
    # In place and of the same length, as tools that edit a file's metadata do it.
    tensor = read_header(path, "tiny").tensors["blk.1.ffn_up.weight"]
    content[tensor.start : tensor.start + 4] = np.float32(0.5).tobytes()
    path.write_bytes(content)
    assert load(path).fingerprint["weights"] != first.fingerprint["weights"]
    assert len(list((cache / "gguf").glob("tiny-*"))) == 2


def test_the_disk_that_it_takes_is_said_before_it_is_taken(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(Notice, match=r"converted once, into 0\.0 GiB"):
        load(file)
    shutil.rmtree(cache)
    usage = shutil.disk_usage(file)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    found = refusal(file)
    assert "takes 0.0 GiB" in found
    assert "COKV_BENCH_CACHE" in found
    assert not [path for path in (cache / "gguf").iterdir() if path.is_dir()]


def test_a_cache_that_cannot_be_written(file: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert "cannot be written" in refusal(file)


def test_without_the_library(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "find_spec", lambda name: None)
    assert "run: pip install gguf" in refusal(file)


def fill(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        convert_once(tmp_path / "cache" / "model", fail)
    assert list((tmp_path / "cache").iterdir()) == []
    convert_once(tmp_path / "cache" / "model", fill)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["model"]


_WORKER = """
import os, sys, time
from pathlib import Path
from cokv_bench.models.conversion import convert_once

target, death = Path(sys.argv[1]), sys.argv[2]

def convert(folder):
    with open(target.parent.parent / "log", "a") as log:
        log.write("converted\\n")
    (folder / "weights").write_text("half")
    if death == "dies":
        os.kill(os.getpid(), 9)
    time.sleep(0.5)
    (folder / "config.json").write_text("{}")

assert (convert_once(target, convert) / "weights").is_file()
"""


def test_of_several_processes_one_converts_and_the_others_find_it(tmp_path: Path) -> None:
    def worker(death: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", _WORKER, str(tmp_path / "cache" / "model"), death])

    assert worker("dies").wait() == -9
    assert [path.name[:8] for path in (tmp_path / "cache").iterdir()] == ["convert-"]
    workers = [worker("lives") for _ in range(3)]
    assert [each.wait() for each in workers] == [0, 0, 0]
    assert (tmp_path / "log").read_text().count("converted") == 2
    # What the killed one left is gone as well.
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["model"]
