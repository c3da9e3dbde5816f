"""A question appended after compression: with everything kept it is the plain prompt, else it sees what is kept."""

import pytest
import torch

from cokv_bench.kvcache import Selection, decode, prefill
from cokv_bench.models import Model
from tests.conftest import random_ids

TOKENS, ASKED, NEW = 60, 9, 6


def plain(model: Model, ids: list[int], new: int) -> list[int]:
    """What transformers generates."""
    out = model.network.generate(torch.tensor([ids]), max_new_tokens=new, do_sample=False)
    return out[0, len(ids) :].tolist()


def choices(seed: int, rows: int, tokens: int, model: Model) -> list[Selection]:
    chance = torch.Generator().manual_seed(seed)
    kept = torch.rand(rows, model.layers, model.kv_heads, tokens, generator=chance) < 0.5
    kept[..., -4:] = True
    return [Selection(row) for row in kept]


def test_with_all_kept_it_is_the_plain_prompt(tiny: Model) -> None:
    ids = random_ids(TOKENS + ASKED)
    prompt = prefill(tiny, ids[:TOKENS])
    full = Selection.full(tiny.layers, tiny.kv_heads, TOKENS)
    expected = plain(tiny, ids, NEW)
    for storage in ("shared", "ragged"):
        (answer,) = decode(tiny, prompt, [full], question=ids[TOKENS:], max_new_tokens=NEW, storage=storage)
        assert answer.token_ids == expected


def test_storages_agree_on_what_a_question_sees(tiny: Model) -> None:
    ids = random_ids(TOKENS + ASKED, seed=3)
    prompt = prefill(tiny, ids[:TOKENS])
    rows = choices(1, 5, TOKENS, tiny)
    shared = decode(tiny, prompt, rows, question=ids[TOKENS:], max_new_tokens=NEW)
    ragged = decode(tiny, prompt, rows, question=ids[TOKENS:], max_new_tokens=NEW, storage="ragged")
    alone = [decode(tiny, prompt, [row], question=ids[TOKENS:], max_new_tokens=NEW)[0] for row in rows]
    assert [a.token_ids for a in shared] == [a.token_ids for a in ragged] == [a.token_ids for a in alone]
    # The first token already depends on the selection, unlike with the question in the prompt.
    assert len({tuple(a.token_ids) for a in shared}) > 1


def test_teacher_forcing_scores_the_first_token_too(tiny: Model) -> None:
    ids = random_ids(TOKENS + ASKED, seed=5)
    prompt = prefill(tiny, ids[:TOKENS])
    rows = [*choices(2, 3, TOKENS, tiny), Selection.full(tiny.layers, tiny.kv_heads, TOKENS)]
    answer = random_ids(4, seed=9)
    forced = decode(tiny, prompt, rows, question=ids[TOKENS:], teacher=answer)
    logits = tiny.network(torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1]
    expected = torch.log_softmax(logits.float(), -1).gather(-1, torch.tensor(answer)[:, None])[:, 0]
    assert forced[-1].logprobs is not None
    assert torch.allclose(forced[-1].logprobs, expected, atol=1e-4)
    firsts = {round(float(row.logprobs[0]), 5) for row in forced if row.logprobs is not None}
    assert len(firsts) == 4


def test_a_question_fed_in_pieces_changes_nothing(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    ids = random_ids(TOKENS + ASKED, seed=7)
    prompt = prefill(tiny_llama, ids[:TOKENS])
    rows = choices(3, 4, TOKENS, tiny_llama)
    whole = decode(tiny_llama, prompt, rows, question=ids[TOKENS:], max_new_tokens=NEW, batch_size=4)
    module = importlib.import_module("cokv_bench.kvcache.decode")
    monkeypatch.setattr(module, "rows_at_a_time", lambda *_, **__: 8)
    pieces = decode(tiny_llama, prompt, rows, question=ids[TOKENS:], max_new_tokens=NEW, batch_size=4)
    assert [a.token_ids for a in whole] == [a.token_ids for a in pieces]
