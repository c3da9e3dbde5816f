"""float16 and bfloat16 where keys are as large as trained checkpoints have them: raw products exceed 65504."""

from pathlib import Path

import pytest
import torch
import transformers

from cokv_bench import decode, get_policy, load_model, prefill
from cokv_bench.kvcache import Generation, Prompt, Selection, compress, products
from cokv_bench.kvcache.generated import own_token_scores
from cokv_bench.kvcache.ranked import RankedRow, answer_logprobs, by_rank
from cokv_bench.kvcache.received import received_attention
from cokv_bench.models import Model
from tests.conftest import random_ids, save_tiny

TOKENS, NEW, DIM = 120, 8, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 whose key and query biases make raw products of 67500."""
    path = save_tiny("qwen2", tmp_path_factory.mktemp("bigbias"))
    network = transformers.AutoModelForCausalLM.from_pretrained(path)
    with torch.no_grad():
        for layer in network.model.layers:
            for projection, size in ((layer.self_attn.q_proj, 150.0), (layer.self_attn.k_proj, 450.0)):
                projection.bias.zero_()
                # The slowest of the rotary frequencies: its products stay large over all distances.
                projection.bias[DIM - 1 :: DIM] = size
    network.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def half(folder: Path) -> Model:
    return load_model(str(folder), device="cpu", dtype="float16")


def plain(folder: Path, ids: list[int], dtype: torch.dtype) -> list[int]:
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    start = torch.tensor([ids])
    made = network.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=NEW, do_sample=False)
    return made[0, len(ids) :].tolist()


def by_generate(model: Model, ids: list[int], method: str, budget: int | None) -> list[int]:
    """What transformers' generate makes of the compact cache."""
    found = compress(model, ids, get_policy(method), budget)
    start = torch.tensor([[*ids, int(found.logits.argmax())]])
    made = model.network.generate(
        start,
        attention_mask=torch.ones_like(start),
        past_key_values=found.cache,
        max_new_tokens=NEW - 1,
        do_sample=False,
    )
    return made[0, len(ids) :].tolist()


def answer(model: Model, prompt: Prompt, choice: Selection, storage: str) -> Generation:
    return decode(model, prompt, [choice], max_new_tokens=NEW, storage=storage)[0]


@pytest.mark.parametrize("seed", [1, 2])
def test_float16_answers_as_generate_does(folder: Path, half: Model, seed: int) -> None:
    ids = random_ids(TOKENS, seed)
    expected = plain(folder, ids, torch.float16)
    prompt = prefill(half, ids)
    whole = get_policy("full").select(prompt, None)
    assert answer(half, prompt, whole, "shared").token_ids == expected
    assert answer(half, prompt, whole, "ragged").token_ids == expected
    assert by_generate(half, ids, "full", None) == expected


@pytest.mark.parametrize("method", ["snapkv", "h2o", "streaming-llm"])
def test_float16_keeps_the_storages_alike(half: Model, method: str) -> None:
    ids = random_ids(TOKENS, 3)
    prompt = prefill(half, ids)
    choice = get_policy(method).select(prompt, 40)
    expected = answer(half, prompt, choice, "ragged").token_ids
    assert answer(half, prompt, choice, "shared").token_ids == expected
    assert by_generate(half, ids, method, 40) == expected


def test_a_search_scores_in_float16_what_decoding_scores(half: Model) -> None:
    prompt = prefill(half, random_ids(TOKENS, 4))
    ranks, teacher = get_policy("snapkv").ranks(prompt), torch.tensor(random_ids(9, 5))
    kept = torch.full(ranks.shape[:2], 30)
    choice = Selection.from_ranks(ranks, kept, prompt.window)
    (generation,) = decode(half, prompt, [choice], teacher=teacher, storage="ragged")
    assert generation.logprobs is not None
    wanted = (kept + 0.25).requires_grad_(True)
    row = RankedRow(by_rank(prompt, ranks), torch.tensor([], dtype=torch.long), teacher, kept, wanted)
    found = answer_logprobs(half, [row])
    assert found.item() == pytest.approx(float(generation.logprobs[1:].mean()), abs=0.02)
    found.sum().backward()
    assert wanted.grad is not None
    assert wanted.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_products_are_those_of_the_widened_keys(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """In 16 bits the raw products of these keys, of 70000, would be infinite or the same for all keys."""
    monkeypatch.setattr(products, "_PIECE_BYTES", 4 * 2 * 64 * 256)  # four pieces of keys
    chance = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(2, size, 64, generator=chance) for size in (6, 900))
    queries[..., 0], keys[..., 0] = 140.0, 500.0
    queries, keys = queries.to(dtype), keys.to(dtype)
    exact = torch.matmul(queries.double(), keys.double().transpose(1, 2)) * 0.125
    scores = torch.empty(2, 6, 907)[..., :900]
    products.scaled_products(queries, keys, 0.125, scores)
    torch.testing.assert_close(scores.double(), exact, atol=0.02, rtol=0)
    own = own_token_scores(queries[None], keys[None], 0.125, 1)
    torch.testing.assert_close(own[0].double(), exact, atol=0.02, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_accumulated_attention_is_that_of_the_widened_keys(dtype: torch.dtype) -> None:
    chance = torch.Generator().manual_seed(0)
    query, keys = torch.randn(4, 30, 16, generator=chance), torch.randn(2, 30, 16, generator=chance)
    query[..., 0], keys[..., 0] = 140.0, 500.0
    query, keys = query.to(dtype), keys.to(dtype)
    scores = torch.matmul(query.double(), keys.double().repeat_interleave(2, 0).transpose(1, 2)) * 0.25
    later = torch.ones(30, 30, dtype=torch.bool).triu(1)
    expected = scores.masked_fill(later, float("-inf")).softmax(-1).sum(1).view(2, 2, 30).mean(1)
    torch.testing.assert_close(received_attention(query, keys, 0.25).double(), expected, atol=0.02, rtol=0.01)
