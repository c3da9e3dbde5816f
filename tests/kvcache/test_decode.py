"""Decoding against plain `generate`, and the two storages against each other."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.kvcache import Prompt, RaggedCache, Selection, decode, flash, prefill
from cokv_bench.models import Model
from cokv_bench.policies import get_policy
from tests.conftest import random_ids

TOKENS = 70


def full(prompt: Prompt) -> Selection:
    return Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)


def some(prompt: Prompt) -> list[Selection]:
    """Selections of many kinds and sizes, one of them twice."""
    chance = torch.Generator().manual_seed(3)
    members = torch.rand(prompt.layers, prompt.kv_heads, generator=chance) < 0.5
    policies = [
        get_policy(name).select(prompt, budget) for name in ("snapkv", "ada-snapkv", "h2o") for budget in (12, 40)
    ]
    return [*policies, full(prompt), Selection.from_coalition(members, prompt.tokens, prompt.window), policies[0]]


def coalitions(prompt: Prompt) -> list[Selection]:
    """Nobody, everybody, and some in between."""
    chance = torch.Generator().manual_seed(5)
    shape = (7, prompt.layers, prompt.kv_heads)
    members = torch.rand(shape, generator=chance) < torch.linspace(0, 1, 7)[:, None, None]
    return [Selection.from_coalition(inside, prompt.tokens, prompt.window) for inside in members]


@pytest.mark.parametrize("storage", ["shared", "ragged"])
def test_full_is_plain_generate(tiny: Model, storage: str) -> None:
    for seed in range(5):
        ids = random_ids(TOKENS, seed)
        prompt = prefill(tiny, ids)
        plain = tiny.network.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False)[0, TOKENS:].tolist()
        answer = decode(tiny, prompt, [full(prompt)], max_new_tokens=20, storage=storage)[0]
        assert answer.token_ids == plain


def test_masked_rows_are_the_plain_model_with_a_mask(tiny: Model) -> None:
    """An independent reference: transformers' eager attention over the whole text, dropped positions masked."""
    ids, answer = random_ids(TOKENS), random_ids(6, seed=9)
    prompt = prefill(tiny, ids)
    choice = get_policy("snapkv").select(prompt, 20)
    # One mask for all heads is all that plain transformers takes, so every head keeps what head 0 of layer 0 keeps.
    same = Selection(choice.kept[:1, :1].expand(tiny.layers, tiny.kv_heads, -1).clone())
    allowed = torch.ones(TOKENS + 5, TOKENS + 5).tril().bool()
    allowed[TOKENS:, :TOKENS] &= same.kept[0, 0]
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)[None, None]
    tiny.network.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            logits = tiny.network(torch.tensor([ids + answer[:-1]]), attention_mask=mask).logits[0, TOKENS - 1 :]
    finally:
        tiny.network.set_attn_implementation("cokv_bench")
    expected = torch.log_softmax(logits.float(), -1).gather(-1, torch.tensor(answer)[:, None])[:, 0]
    row = decode(tiny, prompt, [same], teacher=answer)[0]
    torch.testing.assert_close(row.logprobs, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", [some, coalitions, lambda prompt: some(prompt) + coalitions(prompt)])
def test_shared_and_ragged_agree(tiny: Model, kind: Callable[[Prompt], list[Selection]]) -> None:
    prompt = prefill(tiny, random_ids(TOKENS))
    choices = kind(prompt)
    teacher = random_ids(7, seed=4)
    shared = decode(tiny, prompt, choices, max_new_tokens=15)
    ragged = decode(tiny, prompt, choices, max_new_tokens=15, storage="ragged")
    assert [row.token_ids for row in shared] == [row.token_ids for row in ragged]
    shared = decode(tiny, prompt, choices, teacher=teacher)
    ragged = decode(tiny, prompt, choices, teacher=teacher, storage="ragged")
    for a, b in zip(shared, ragged, strict=True):
        torch.testing.assert_close(a.logprobs, b.logprobs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("storage", ["shared", "ragged"])
def test_rows_do_not_depend_on_their_batch(tiny_llama: Model, storage: str) -> None:
    prompt = prefill(tiny_llama, random_ids(TOKENS))
    choices = some(prompt)
    together = decode(tiny_llama, prompt, choices, max_new_tokens=15, storage=storage)
    alone = [decode(tiny_llama, prompt, [choice], max_new_tokens=15, storage=storage)[0] for choice in choices]
    by_two = decode(tiny_llama, prompt, choices, max_new_tokens=15, storage=storage, batch_size=2)
    assert [row.token_ids for row in together] == [row.token_ids for row in alone]
    assert [row.token_ids for row in together] == [row.token_ids for row in by_two]


def test_teacher_forcing_gives_the_log_probabilities_of_greedy_decoding(tiny_llama: Model) -> None:
    """Scoring a greedy answer token by token must find each token to be the most probable one."""
    prompt = prefill(tiny_llama, random_ids(TOKENS))
    choice = get_policy("snapkv").select(prompt, 16)
    greedy = decode(tiny_llama, prompt, [choice], max_new_tokens=8)[0].token_ids
    score = decode(tiny_llama, prompt, [choice], teacher=greedy)[0].logprobs
    assert score is not None
    for place in range(len(greedy)):
        for other in (3, 50, 119):
            changed = [*greedy[:place], other]
            rival = decode(tiny_llama, prompt, [choice], teacher=changed)[0].logprobs
            assert rival is not None
            assert rival[place] <= score[place] + 1e-5


def test_the_first_token_does_not_depend_on_the_selection(tiny: Model) -> None:
    prompt = prefill(tiny, random_ids(TOKENS))
    rows = decode(tiny, prompt, some(prompt), teacher=[7, 8])
    assert len({float(row.logprobs[0]) for row in rows}) == 1
    assert len({decode(tiny, prompt, [c], max_new_tokens=1)[0].token_ids[0] for c in some(prompt)}) == 1


def test_rows_stop_at_the_end_token_and_keep_it(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any token can be the stop token: take one that rows reach at different times."""
    prompt = prefill(tiny_llama, random_ids(TOKENS))
    choices = some(prompt)
    monkeypatch.setitem(tiny_llama.__dict__, "stop_ids", frozenset())
    free = [row.token_ids for row in decode(tiny_llama, prompt, choices, max_new_tokens=15)]
    stop = max(
        {token for ids in free for token in ids},
        key=lambda token: len({ids.index(token) if token in ids else 99 for ids in free}),
    )
    monkeypatch.setitem(tiny_llama.__dict__, "stop_ids", frozenset([stop]))
    for storage in ("shared", "ragged"):
        rows = decode(tiny_llama, prompt, choices, max_new_tokens=15, storage=storage)
        expected = [ids[: ids.index(stop) + 1] if stop in ids else ids for ids in free]
        assert [row.token_ids for row in rows] == expected


def test_coalitions_read_views_of_the_prompt_and_the_window_alone(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key or value of the prompt is copied, and heads outside a coalition read the window's tokens only."""
    prompt = prefill(tiny_llama, random_ids(TOKENS))
    over_shared, read = flash.over_shared, []

    def spy(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float) -> flash.Part:
        read.append((keys.untyped_storage().data_ptr(), queries.shape[1], keys.shape[1]))
        return over_shared(queries, keys, values, scaling)

    monkeypatch.setattr(flash, "over_shared", spy)
    choices, new = list({choice.key(): choice for choice in coalitions(prompt)}.values()), 4
    assert len(choices) > 4
    decode(tiny_llama, prompt, choices, teacher=random_ids(new + 1, seed=4))
    assert {place for place, _, _ in read} == {keys.untyped_storage().data_ptr() for keys in prompt.keys}
    # In the first layer the rows are alike: each distinct stretch is read for one row, in each KV head.
    group = tiny_llama.heads // tiny_llama.kv_heads
    first = [entry for entry in read if entry[0] == prompt.keys[0].untyped_storage().data_ptr()]
    assert {queries for _, queries, _ in first} == {group * new}
    inside = sum(int(choice.counts[1:].eq(TOKENS).sum()) for choice in choices)
    outside = len(choices) * prompt.kv_heads * (prompt.layers - 1) - inside
    later = sum(queries * tokens for place, queries, tokens in read if place != first[0][0])
    assert later == group * new * (inside * TOKENS + outside * prompt.window)


def test_batches_follow_from_the_memory_that_is_given(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = prefill(tiny_llama, random_ids(TOKENS))
    choices = list({choice.key(): choice for choice in coalitions(prompt)}.values())[:5]
    rows: list[int] = []
    module = importlib.import_module("cokv_bench.kvcache.decode")
    cache = module.SharedCache
    monkeypatch.setattr(module, "SharedCache", lambda p, s, reserve: rows.append(len(s)) or cache(p, s, reserve))
    own = 9 * prompt.layers * prompt.kv_heads * tiny_llama.bytes_per_token  # the tenth token is never fed back
    free = decode(tiny_llama, prompt, choices, max_new_tokens=10)
    tight = decode(tiny_llama, prompt, choices, max_new_tokens=10, memory=3 * own)
    assert rows == [5, 3, 2]
    assert [row.token_ids for row in free] == [row.token_ids for row in tight]


def test_scores_are_made_piece_by_piece_where_they_would_be_large(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = prefill(tiny_llama, random_ids(TOKENS))
    choices, teacher = some(prompt) + coalitions(prompt), random_ids(9, seed=4)
    whole = decode(tiny_llama, prompt, choices, teacher=teacher)
    module = importlib.import_module("cokv_bench.kvcache.shared")
    # Scores of five queries, of which a row has 3 x 8, and of two rows of the window alone.
    for size in (4 * 5 * (TOKENS + 8), 4 * 2 * 24 * (8 + 8)):
        monkeypatch.setattr(module, "_SCORE_BYTES", size)
        pieces = decode(tiny_llama, prompt, choices, teacher=teacher)
        for a, b in zip(whole, pieces, strict=True):
            torch.testing.assert_close(a.logprobs, b.logprobs, atol=1e-4, rtol=1e-4)


def test_nothing_is_kept_from_the_prompt_before(tiny_llama: Model) -> None:
    first, second = random_ids(TOKENS, 1), random_ids(45, 2)
    alone = decode(
        tiny_llama, prefill(tiny_llama, second), [get_policy("snapkv").select(prefill(tiny_llama, second), 12)]
    )
    prompt = prefill(tiny_llama, first)
    decode(tiny_llama, prompt, some(prompt))
    prompt = prefill(tiny_llama, second)
    assert decode(tiny_llama, prompt, [get_policy("snapkv").select(prompt, 12)])[0].token_ids == alone[0].token_ids


@pytest.mark.parametrize("storage", ["shared", "ragged"])
def test_an_answer_ends_where_it_holds_a_text(texty: Model, storage: str) -> None:
    prompt = prefill(texty, random_ids(TOKENS))
    choices = [full(prompt), *(get_policy(name).select(prompt, 12) for name in ("snapkv", "streaming-llm"))]
    whole = decode(texty, prompt, choices, max_new_tokens=24, storage=storage)
    assert len({tuple(row.token_ids) for row in whole}) == 3
    write = texty.text_tokenizer.decode
    # Of the first row a text of several tokens, of the second one that comes later.
    until = [write(whole[0].token_ids[5:8]), write(whole[1].token_ids[10:13]), "<eos>"]
    ended = decode(texty, prompt, choices, max_new_tokens=24, until=until, storage=storage)
    for before, row in zip(whole, ended, strict=True):
        ends = [end for end in range(1, 25) if any(text in write(before.token_ids[:end]) for text in until)]
        assert row.token_ids == before.token_ids[: min(ends, default=24)]
    assert len(ended[0].token_ids) < len(ended[1].token_ids) < 24


def test_the_text_of_a_special_token_ends_an_answer(texty: Model) -> None:
    bos = texty.text_tokenizer.bos_token_id
    for seed in range(100):
        prompt = prefill(texty, random_ids(TOKENS, seed))
        (whole,) = decode(texty, prompt, [full(prompt)], max_new_tokens=24)
        if bos in whole.token_ids[:-1]:
            break
    (ended,) = decode(texty, prompt, [full(prompt)], max_new_tokens=24, until=["<bos>"])
    assert ended.token_ids == whole.token_ids[: whole.token_ids.index(bos) + 1]
    assert "<bos>" not in ended.text


def test_decoding_leaves_the_prompt_as_it_was(tiny_llama: Model) -> None:
    prompt = prefill(tiny_llama, random_ids(TOKENS))
    before = [t.clone() for t in (*prompt.keys, *prompt.values, prompt.logits)]
    decode(tiny_llama, prompt, some(prompt), max_new_tokens=10)
    decode(tiny_llama, prompt, some(prompt), max_new_tokens=10, storage="ragged")
    assert all(torch.equal(a, b) for a, b in zip(before, (*prompt.keys, *prompt.values, prompt.logits), strict=True))


def test_the_ragged_cache_holds_what_is_kept_and_no_more(tiny: Model) -> None:
    prompt = prefill(tiny, random_ids(TOKENS))
    for choice in some(prompt):
        cache = RaggedCache(prompt, [choice], reserve=0)
        assert cache.kept_bytes == choice.total * tiny.bytes_per_token
        buffers = {layer.keys_flat.untyped_storage().nbytes() for layer in cache.layers}
        assert buffers == {int(c) * tiny.head_dim * 4 for c in choice.counts.sum(1)}


def test_bad_requests_are_refused(tiny_llama: Model) -> None:
    prompt = prefill(tiny_llama, random_ids(TOKENS))
    with pytest.raises(RequestError, match="does not fit"):
        decode(tiny_llama, prompt, [Selection.full(prompt.layers, prompt.kv_heads, TOKENS - 1)])
    with pytest.raises(RequestError, match="exceed the context"):
        decode(tiny_llama, prompt, [full(prompt)], max_new_tokens=500)
    with pytest.raises(RequestError, match="1 or more, not 0"):
        decode(tiny_llama, prompt, [full(prompt)], max_new_tokens=0)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"teacher": [3, -1]}, "ids must be from 0 to"),
        ({"teacher": [3, 9999]}, "ids must be from 0 to"),
        ({"question": [9999]}, "ids must be from 0 to"),
        ({"teacher": [[3, 4], [5, 6]]}, "give one row"),
        ({"batch_size": -1}, "at least one row, not -1"),
        ({"storage": "sharde"}, "'shared' or 'ragged', not 'sharde'"),
    ],
    ids=str,
)
def test_what_a_row_cannot_have_is_refused(tiny_llama: Model, asked: dict[str, Any], said: str) -> None:
    prompt = prefill(tiny_llama, random_ids(20))
    with pytest.raises(RequestError, match=said):
        decode(tiny_llama, prompt, [Selection.full(prompt.layers, prompt.kv_heads, 20)], **asked)
