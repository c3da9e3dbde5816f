"""The tokenizer of a GGUF file: the tokens of its checkpoint, and those that end an answer."""

import json
from pathlib import Path

import pytest

from cokv_bench.errors import Notice
from cokv_bench.models.gguf.header import Header
from cokv_bench.models.gguf.tokenizer import stop_ids
from tests.models.gguf_files import TEXT, TOKENS, load, plain, write
from tests.models.written import sentencepiece

pytestmark = pytest.mark.filterwarnings("ignore::cokv_bench.errors.Notice")


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
