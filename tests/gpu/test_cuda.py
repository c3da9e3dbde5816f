"""On a GPU everything gives what it gives on the CPU; each test is skipped where there is none."""

from pathlib import Path

import pytest
import torch

from cokv_bench.engines import Call, LocalWorkers
from cokv_bench.engines.streaming import StreamingEngine
from cokv_bench.kvcache import RaggedCache, Selection, compress, decode, prefill
from cokv_bench.kvcache.fused import fused
from cokv_bench.kvcache.graph import capture
from cokv_bench.kvcache.ranked import RankedRow, answer_logprobs, by_rank
from cokv_bench.models import Model, load_model
from cokv_bench.policies import get_policy
from tests.conftest import random_ids, save_tiny
from tests.engines.test_streaming import Asking

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")

TOKENS = 150
METHODS = ["snapkv", "pyramidkv", "ada-snapkv", "ada-pyramid", "h2o", "streaming-llm"]


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Model]:
    """The same tiny float32 model on the CPU and on the GPU."""
    # Heads of 16, the least that matrix units multiply.
    sizes = {"hidden_size": 96} if request.param == "llama" else {"head_dim": 16}
    folder = save_tiny(request.param, tmp_path_factory.mktemp(request.param), **sizes)
    return load_model(str(folder), device="cpu"), load_model(str(folder), device="cuda", dtype="float32")


def test_prefill_gives_the_same(pair: tuple[Model, Model]) -> None:
    ids = random_ids(TOKENS)
    one, other = (prefill(model, ids, window=8, chunk=60) for model in pair)
    torch.testing.assert_close(other.logits.cpu(), one.logits, atol=2e-3, rtol=2e-3)
    for layer in range(one.layers):
        torch.testing.assert_close(other.keys[layer].cpu(), one.keys[layer], atol=2e-3, rtol=2e-3)
        assert one.accumulated_attention is not None
        assert other.accumulated_attention is not None
        torch.testing.assert_close(
            other.accumulated_attention[layer].cpu(), one.accumulated_attention[layer], atol=2e-3, rtol=2e-3
        )


@pytest.mark.parametrize("storage", ["shared", "ragged"])
def test_selections_decode_to_the_same(pair: tuple[Model, Model], storage: str) -> None:
    ids = random_ids(TOKENS, seed=1)
    found = []
    for model in pair:
        prompt = prefill(model, ids, window=8)
        choices = [get_policy(name).select(prompt, 24) for name in METHODS]
        members = torch.rand(3, model.layers, model.kv_heads, generator=torch.Generator().manual_seed(1)) < 0.5
        choices += [Selection.from_coalition(inside, TOKENS, 8) for inside in members]
        found.append(decode(model, prompt, choices, teacher=random_ids(12, seed=2), storage=storage))
    for one, other in zip(*found, strict=True):
        assert one.logprobs is not None
        assert other.logprobs is not None
        torch.testing.assert_close(other.logprobs, one.logprobs, atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("name", METHODS)
def test_greedy_answers_are_the_same(pair: tuple[Model, Model], name: str) -> None:
    ids = random_ids(TOKENS, seed=3)
    answers = []
    for model in pair:
        prompt = prefill(model, ids, window=8)
        choice = get_policy(name).select(prompt, 24)
        answers += [
            decode(model, prompt, [choice], max_new_tokens=30, storage=storage)[0].token_ids
            for storage in ("shared", "ragged")
        ]
    assert answers[0] == answers[1] == answers[2] == answers[3]


def test_rows_that_end_leave_the_batch(pair: tuple[Model, Model]) -> None:
    ids = random_ids(TOKENS, seed=4)
    answers = []
    for model in pair:
        prompt = prefill(model, ids, window=8)
        choices = [get_policy(name).select(prompt, budget) for name in METHODS for budget in (16, 40)]
        answers.append([a.token_ids for a in decode(model, prompt, choices, max_new_tokens=60, storage="ragged")])
    assert answers[0] == answers[1]


def test_generate_of_transformers_goes_on_from_a_compressed_prompt(pair: tuple[Model, Model]) -> None:
    ids = random_ids(TOKENS, seed=5)
    answers = []
    for model in pair:
        found = compress(model, ids, get_policy("ada-snapkv"), 24, reserve=4, chunk=64, rows=2)
        start = torch.tensor([[*ids, int(found.logits.argmax())]] * 2, device=model.device)
        mask = torch.ones_like(start)
        made = model.network.generate(
            start, attention_mask=mask, past_key_values=found.cache, max_new_tokens=20, do_sample=False
        )
        answers.append(made[:, TOKENS:].tolist())
    assert answers[0] == answers[1]


def test_bytes_are_what_the_allocator_counts(pair: tuple[Model, Model]) -> None:
    model = pair[1]
    prompt = prefill(model, random_ids(TOKENS, seed=6), accumulated_attention=False)
    choice = get_policy("snapkv").select(prompt, 64)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    cache = RaggedCache(prompt, [choice], reserve=0)
    # Beside keys and values, some counters a layer; the allocator rounds each up to 512 bytes.
    assert 0 <= torch.cuda.memory_allocated() - before - cache.kept_bytes <= 20 * 512 * model.layers


def test_the_gradient_of_budgets_is_the_same(pair: tuple[Model, Model]) -> None:
    ids, answer = random_ids(TOKENS, seed=7), torch.tensor(random_ids(6, seed=8))
    found = []
    for model in pair:
        prompt = prefill(model, ids, window=8)
        ranked = by_rank(prompt, get_policy("snapkv").ranks(prompt))
        kept = torch.arange(model.layers * model.kv_heads).view(model.layers, model.kv_heads) * 4 + 10
        wanted = kept.float().requires_grad_()
        row = RankedRow(ranked, torch.zeros(0, dtype=torch.long), answer, kept, wanted)
        score = answer_logprobs(model, [row])
        score.sum().backward()
        assert wanted.grad is not None
        found.append((score.detach().cpu(), wanted.grad))
    torch.testing.assert_close(found[1][0], found[0][0], atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(found[1][1], found[0][1], atol=2e-3, rtol=2e-2)


def test_half_precision_gives_the_same_from_both_storages(tmp_path: Path) -> None:
    model = load_model(str(save_tiny("llama", tmp_path, hidden_size=96)), device="cuda", dtype="bfloat16")
    prompt = prefill(model, random_ids(TOKENS), window=8)
    choice = get_policy("ada-snapkv").select(prompt, 24)
    shared, ragged = (
        decode(model, prompt, [choice], teacher=random_ids(12, seed=2), storage=storage)[0].logprobs
        for storage in ("shared", "ragged")  # type: ignore[arg-type]
    )
    assert shared is not None
    assert ragged is not None
    # Numbers of eight bits of precision through three layers of large weights; on a CPU the two lie 0.4 nats apart.
    assert (ragged - shared).abs().max() < 1


def test_calls_that_decode_together_answer_as_alone(pair: tuple[Model, Model]) -> None:
    on_gpu = pair[1]
    calls = [Call(number, Asking(60 + 20 * number, (1, 5, 30)[number % 3])) for number in range(6)]
    engine = LocalWorkers(on_gpu).open(lambda model: model)
    assert isinstance(engine, StreamingEngine)
    expected = {call.number: call.run(on_gpu) for call in calls}
    # Twice: captured steps serve the second time.
    for _ in range(2):
        found = {call.number: answers for call, answers in engine.results(calls)}
        for number, pairs in expected.items():
            for one, other in zip(found[number], pairs, strict=True):
                assert [answer.token_ids for answer in one] == [answer.token_ids for answer in other]


def test_steps_with_few_kernels_give_the_states_of_the_layers(pair: tuple[Model, Model]) -> None:
    from cokv_bench.kvcache import triton_decode, triton_step

    like = prefill(pair[1], random_ids(TOKENS), window=8)
    assert fused(pair[1], like, triton_decode.decode_attention, triton_step) is not None


def test_a_capture_that_fails_leaves_the_stream_as_it_was() -> None:
    before = torch.cuda.current_stream()
    numbers = torch.ones(4, device="cuda")
    with pytest.raises(RuntimeError):
        capture(lambda: numbers.sum().item() if torch.cuda.is_current_stream_capturing() else None, numbers.device)
    assert torch.cuda.current_stream() == before
    assert numbers.sum().item() == 4
