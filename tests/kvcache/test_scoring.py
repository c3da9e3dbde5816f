"""Several texts after one prompt, against plain transformers and against each text on its own."""

import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.kvcache import Prompt, Selection, decode, prefill
from cokv_bench.kvcache.scoring import score
from cokv_bench.models import Model
from cokv_bench.policies import get_policy
from tests.conftest import random_ids

TOKENS = 70
TEXTS = [random_ids(length, seed=length) for length in (3, 1, 8, 1, 5)]


def full(prompt: Prompt) -> Selection:
    return Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)


@pytest.mark.parametrize("asked", [0, 1, 6])
def test_nothing_evicted_is_one_plain_forward_pass(tiny: Model, asked: int) -> None:
    ids = random_ids(TOKENS)
    prompt, question = prefill(tiny, ids[: TOKENS - asked]), ids[TOKENS - asked :]
    said = decode(tiny, prompt, [full(prompt)], question=question, max_new_tokens=4)[0].token_ids
    texts = [*TEXTS, said, [*said[:-1], said[-1] - 1]]
    found = score(tiny, prompt, full(prompt), texts, question=question)
    for text, each in zip(texts, found, strict=True):
        with torch.inference_mode():
            logits = tiny.network(torch.tensor([ids + text])).logits[0, TOKENS - 1 : -1].float()
        expected = logits.log_softmax(-1).gather(-1, torch.tensor(text)[:, None]).sum()
        assert each.logprob == pytest.approx(float(expected), abs=1e-3)
        assert each.greedy == (logits.argmax(-1).tolist() == text)
    assert [each.greedy for each in found[-2:]] == [True, False]


@pytest.mark.parametrize("asked", [0, 1, 6])
def test_each_text_is_what_it_is_alone(tiny: Model, asked: int) -> None:
    prompt, question = prefill(tiny, random_ids(TOKENS)), random_ids(asked, seed=5)
    choice = get_policy("ada-snapkv").select(prompt, 20)
    alone = [decode(tiny, prompt, [choice], question=question, teacher=text)[0].logprobs for text in TEXTS]
    found = score(tiny, prompt, choice, TEXTS, question=question)
    assert [each.logprob for each in found] == pytest.approx([float(each.double().sum()) for each in alone], abs=1e-4)
    # A row at a time, as where memory is short.
    assert [each.logprob for each in score(tiny, prompt, choice, TEXTS, question=question, memory=1)] == pytest.approx(
        [each.logprob for each in found], abs=1e-4
    )


def test_a_question_lets_the_first_token_depend_on_what_is_kept(tiny_llama: Model) -> None:
    ids, texts = random_ids(TOKENS), [[5], [9]]
    prompt, apart = prefill(tiny_llama, ids), prefill(tiny_llama, ids[:-1])
    few = [get_policy("snapkv").select(each, 12) for each in (prompt, apart)]
    assert score(tiny_llama, prompt, few[0], texts) == score(tiny_llama, prompt, full(prompt), texts)
    asked = [score(tiny_llama, apart, choice, texts, question=ids[-1:]) for choice in (few[1], full(apart))]
    assert all(abs(a.logprob - b.logprob) > 1e-3 for a, b in zip(*asked, strict=True))


def test_the_last_token_needs_no_place_in_the_context(tiny_llama: Model) -> None:
    ids = random_ids(508)
    prompt = prefill(tiny_llama, ids)
    text = random_ids(512 - 508 + 1, seed=1)
    (found,) = score(tiny_llama, prompt, full(prompt), [text])
    with torch.inference_mode():
        logits = tiny_llama.network(torch.tensor([ids + text[:-1]])).logits[0, 507:]
    assert found.logprob == pytest.approx(float(logits.log_softmax(-1)[torch.arange(5), text].sum()), abs=1e-3)
    with pytest.raises(RequestError, match="exceed the context"):
        score(tiny_llama, prompt, full(prompt), [[7], [*text, 7]])


def test_bad_requests_are_refused(tiny_llama: Model) -> None:
    prompt = prefill(tiny_llama, random_ids(TOKENS))
    with pytest.raises(RequestError, match="does not fit"):
        score(tiny_llama, prompt, Selection.full(prompt.layers, prompt.kv_heads, TOKENS - 1), [[5]])
    with pytest.raises(RequestError, match="at least one token"):
        score(tiny_llama, prompt, full(prompt), [[5], []])
    for texts, question in (([[5, 500]], ()), ([[5]], (999,)), ([[-1]], ())):
        with pytest.raises(RequestError, match="ids must be from 0 to"):
            score(tiny_llama, prompt, full(prompt), texts, question=question)
    assert score(tiny_llama, prompt, full(prompt), []) == []
