"""What callers of the API may give by mistake is refused by name, and what they gave is theirs to change."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.kvcache import Prompt, Selection, compress, decode, prefill
from cokv_bench.kvcache.ragged import RaggedCache
from cokv_bench.kvcache.reading import queries_after, room_after
from cokv_bench.kvcache.scoring import score
from cokv_bench.models import Model, load_model
from cokv_bench.policies import get_policy
from tests.conftest import random_ids, save_tiny

TOKENS = 40


@pytest.fixture(scope="module")
def prompt(tiny_llama: Model) -> Prompt:
    return prefill(tiny_llama, random_ids(TOKENS))


def everything(prompt: Prompt) -> Selection:
    return Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)


MISTAKES: list[tuple[Callable[[Model, Prompt], Any], str]] = [
    (lambda model, prompt: decode(model, prompt, everything(prompt)), "write [selection]"),
    (lambda model, prompt: decode(model, prompt, "snapkv"), "write [selection]"),
    (lambda model, prompt: decode(model, prompt, ["snapkv"]), "'snapkv' is no selection"),
    (lambda model, prompt: RaggedCache(prompt, everything(prompt)), "write [selection]"),
    (lambda model, prompt: RaggedCache(prompt, [everything(prompt)], -5), "0 or more, not -5"),
    (lambda model, prompt: RaggedCache(prompt, [everything(prompt)]).crop(5), "below 0, such as -5"),
    (lambda model, prompt: compress(model, [1, 2, 3], None, 40), "compress takes a policy"),
    (lambda model, prompt: compress(model, [1, 2, 3], "ada-snapkv", 40), "get_policy('ada-snapkv')"),
    (lambda model, prompt: get_policy(None), "named by a text"),
    (lambda model, prompt: prefill(model, [1, 2, 3], question=5), "whole numbers in a row, not 5"),
    (lambda model, prompt: prefill(model, [1, 2, 3], question=[9999]), "from 0 to 119"),
    (lambda model, prompt: queries_after(model, prompt, []), "1 to 472 tokens can be read after this prompt, not 0"),
    (lambda model, prompt: queries_after(model, prompt, [9999]), "from 0 to 119"),
    (lambda model, prompt: queries_after(model, prompt, [[3, 4], [5, 6]]), "give one row"),
    (lambda model, prompt: queries_after(model, prompt, [3] * 473), "not 473"),
    (lambda model, prompt: Selection.from_coalition("x", 60, 8), "A coalition is bool [layers, kv_heads], not 'x'"),
    (lambda model, prompt: Selection.from_coalition([[True]], 60, 8.5), "not 8.5"),
    (lambda model, prompt: decode(model, prompt, [everything(prompt)], until=[""]), "of one character or more"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "words"), MISTAKES)
def test_mistakes_are_refused_by_name(
    tiny_llama: Model, prompt: Prompt, call: Callable[[Model, Prompt], Any], words: str
) -> None:
    with pytest.raises(RequestError, match=re.escape(words)) as refusal:
        call(tiny_llama, prompt)
    assert len(str(refusal.value)) <= 400


def test_as_much_can_be_read_as_there_is_room_for(tiny_llama: Model, prompt: Prompt) -> None:
    assert room_after(tiny_llama, prompt) == 512 - TOKENS
    assert queries_after(tiny_llama, prompt, [3, 4])[0].shape[1] == 2


def test_one_text_ends_an_answer_as_a_list_of_it_does(texty: Model) -> None:
    asked = prefill(texty, random_ids(TOKENS))
    (whole,) = decode(texty, asked, [everything(asked)], max_new_tokens=12)
    end = whole.text[3:5]
    as_list, as_text = (
        decode(texty, asked, [everything(asked)], max_new_tokens=12, until=each) for each in ([end], end)
    )
    assert as_list == as_text
    assert as_text[0].text == whole.text[: whole.text.index(end) + 2]


def test_a_prompt_is_read_by_the_model_that_prefilled_it(tiny_llama: Model, prompt: Prompt, tmp_path: Any) -> None:
    other = load_model(str(save_tiny("llama", tmp_path, initializer_range=0.2)), device="cpu")
    with pytest.raises(RequestError, match="is decoded by another model"):
        decode(other, prompt, [everything(prompt)])
    with pytest.raises(RequestError, match="is decoded by another model"):
        score(other, prompt, everything(prompt), [[1, 2]])


def test_buffers_of_the_caller_can_be_used_again(tiny_llama: Model) -> None:
    kept, made = torch.zeros(3, 2, TOKENS, dtype=torch.bool), []
    for count in (5, 20, TOKENS):
        kept[:] = False
        kept[..., -count:] = True
        made.append(Selection(kept))
    assert [each.total for each in made] == [30, 120, 240]
    ids = torch.tensor(random_ids(TOKENS))
    read = prefill(tiny_llama, ids)
    ids.fill_(9)
    assert read.token_ids.tolist() == random_ids(TOKENS)
