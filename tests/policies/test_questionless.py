"""Rankings that need no question, against plain loops in float64 over what transformers itself computes."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cokv_bench import get_policy, load_model, prefill
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import compress
from cokv_bench.kvcache.prefill import Signals, run_layers
from cokv_bench.models import Model
from cokv_bench.policies.names import canonical
from cokv_bench.policies.scorers.dapq import PseudoQueries
from cokv_bench.policies.scorers.expected import ExpectedAttention
from cokv_bench.policies.scorers.keydiff import KeyDiff
from cokv_bench.policies.scorers.knorm import KeyNorm
from cokv_bench.policies.scorers.kvzip import Reconstruction
from cokv_bench.policies.scorers.recent import Recent
from cokv_bench.policies.scorers.sinks_recency import SinksRecency
from cokv_bench.registries import SCORERS
from tests.conftest import random_ids, save_tiny

NAMES = ["keydiff", "knorm", "expected", "kvzip", "dapq", "recent", "sinks-recent"]
HALF = {"partial_rotary_factor": 0.5}


@pytest.fixture(scope="module")
def half_turned(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A decoder whose rotary turns half of each head's dimensions."""
    return load_model(str(save_tiny("phi3", tmp_path_factory.mktemp("half"), **HALF)), device="cpu")


@contextmanager
def heard(model: Model, kind: str) -> Iterator[list[Tensor]]:
    """What each layer's queries or keys are before rotary, [heads, tokens, dim], while `model` reads one text."""
    found: list[Tensor] = []
    count = {"q": model.heads, "k": model.kv_heads}[kind]

    def take(module: Any, inputs: Any, output: Tensor) -> None:
        flat = output[0].flatten(1) if output.ndim == 4 else output[0]
        if fused:
            first = 0 if kind == "q" else model.heads * model.head_dim
            flat = flat[:, first : first + count * model.head_dim]
        found.append(flat.double().unflatten(1, (count, model.head_dim)).transpose(0, 1))

    blocks = [layer.self_attn for layer in model.network.model.layers]
    fused = hasattr(blocks[0], "qkv_proj")
    name = "qkv_proj" if fused else next(each for each in (f"{kind}_norm", f"{kind}_proj") if hasattr(blocks[0], each))
    hooks = [getattr(block, name).register_forward_hook(take) for block in blocks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def asked_and_held(model: Model, ids: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Queries and keys of each layer before rotary, by one plain pass of transformers."""
    with torch.inference_mode(), heard(model, "q") as queries, heard(model, "k") as keys:
        model.network(torch.tensor([ids]))
    return queries, keys


def turned(model: Model, vectors: Tensor, positions: list[int]) -> Tensor:
    """Vectors [heads, tokens, dim] with rotary applied, a position and a pair of dimensions at a time."""
    rotary = model.network.model.rotary_emb
    speeds, stretch = rotary.inv_freq.double().tolist(), float(rotary.attention_scaling)
    out, pairs = vectors.clone(), len(speeds)
    for place, position in enumerate(positions):
        for pair, speed in enumerate(speeds):
            cosine, sine = math.cos(position * speed) * stretch, math.sin(position * speed) * stretch
            a, b = vectors[:, place, pair], vectors[:, place, pair + pairs]
            out[:, place, pair], out[:, place, pair + pairs] = a * cosine - b * sine, b * cosine + a * sine
    return out


def close(ours: list[Tensor], expected: list[Tensor]) -> None:
    assert len(ours) == len(expected)
    for one, other in zip(ours, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, rtol=2e-3, atol=1e-5)


def test_keydiff_and_key_norm_are_their_formulas(make_prompt: Any) -> None:
    prompt = make_prompt(12, window=3)
    for layer, keys in enumerate(prompt.keys):
        for head, own in enumerate(keys.double().tolist()):
            lengths = [math.sqrt(sum(x * x for x in key)) for key in own]
            mean = [sum(key[i] / length for key, length in zip(own, lengths, strict=True)) / 12 for i in range(4)]
            size = math.sqrt(sum(x * x for x in mean))
            cosines = [
                sum(x * y for x, y in zip(key, mean, strict=True)) / length / size
                for key, length in zip(own, lengths, strict=True)
            ]
            assert KeyDiff()(prompt)[layer][head].tolist() == pytest.approx([-each for each in cosines[:9]], abs=1e-6)
            assert KeyNorm()(prompt)[layer][head].tolist() == pytest.approx([-each for each in lengths[:9]], abs=1e-6)


def test_recent_is_recency_alone(make_prompt: Any) -> None:
    prompt = make_prompt(14, window=4)
    for ours, other in zip(Recent()(prompt), SinksRecency(sinks=0)(prompt), strict=True):
        assert torch.equal(ours, other)


@pytest.mark.parametrize("chunk", [4, 7, 100])
def test_moments_of_queries_are_those_of_the_projection(tiny: Model, half_turned: Model, chunk: int) -> None:
    for model in (tiny, half_turned) if tiny.config.model_type == "phi3" else (tiny,):
        for tokens in (3, 5, 40):
            ids = random_ids(tokens)
            prompt = prefill(model, ids, window=2, query_moments=True, chunk=chunk)
            queries, _ = asked_and_held(model, ids)
            assert prompt.query_moments is not None
            for moments, layer in zip(prompt.query_moments, queries, strict=True):
                counted = layer[:, 4:] if tokens > 4 else layer
                mean = counted.mean(dim=1)
                centred = counted - mean[:, None]
                expected = centred.transpose(1, 2) @ centred / counted.shape[1]
                torch.testing.assert_close(moments.mean.double(), mean, rtol=1e-3, atol=1e-4)
                torch.testing.assert_close(moments.covariance.double(), expected, rtol=1e-3, atol=1e-3)


def slow_expected(model: Model, ids: list[int], values: list[Tensor], future: int, epsilon: float) -> list[Tensor]:
    """Expected attention of all tokens but the first four, [kv_heads, tokens - 4] a layer."""
    queries, keys = asked_and_held(model, ids)
    tokens, dim = len(ids), model.head_dim
    following = list(range(tokens, tokens + future))
    units = torch.eye(dim, dtype=torch.float64)
    # Column j of the mean rotation is where the unit vector j goes on average.
    moved = turned(model, units[:, None].expand(dim, future, dim), following).mean(dim=1).T
    result = []
    for layer in range(model.layers):
        held = turned(model, keys[layer], list(range(tokens)))
        group = model.heads // model.kv_heads
        scores = torch.zeros(model.kv_heads, tokens - 4, dtype=torch.float64)
        for head in range(model.heads):
            rows = queries[layer][head, 4:]
            mean = rows.mean(dim=0)
            covariance = sum(torch.outer(row - mean, row - mean) for row in rows) / len(rows)
            mean, covariance = moved @ mean, moved @ covariance @ moved.T
            logits = [
                float(key @ mean) / math.sqrt(dim) + float(key @ covariance @ key) / 2 / dim
                for key in held[head // group, 4:]
            ]
            total = sum(math.exp(each - max(logits)) for each in logits)
            for place, each in enumerate(logits):
                scores[head // group, place] += math.exp(each - max(logits)) / total / group
        result.append((scores + epsilon) * values[layer][:, 4:].double().norm(dim=-1))
    return result


@pytest.mark.parametrize(("future", "epsilon"), [(512, 0.0), (3, 0.02)])
def test_expected_attention_is_the_formula(tiny: Model, half_turned: Model, future: int, epsilon: float) -> None:
    for model in (tiny, half_turned) if tiny.config.model_type == "phi3" else (tiny,):
        ids = random_ids(30)
        prompt = prefill(model, ids, window=5, query_moments=True, chunk=11)
        found = ExpectedAttention(future=future, epsilon=epsilon)(prompt)
        # No query ever comes from beyond the context.
        wanted = slow_expected(model, ids, prompt.values, min(future, model.context - len(ids)), epsilon)
        close([layer[:, 4:] for layer in found], [layer[:, :21] for layer in wanted])
        for layer in found:
            assert (layer[:, :4] >= layer[:, 4:].max()).all()


@pytest.mark.parametrize("split", ["global", "lava"])
def test_sinks_of_expected_attention_grow_with_its_scores(tiny_llama: Model, split: str) -> None:
    """A split that goes by shares of a layer's sum does not ask how large the values of a layer are."""
    policy = get_policy(f"expected+{split}")
    prompt = prefill(tiny_llama, random_ids(60), query_moments=True)
    counts = policy.select(prompt, 20).counts
    assert (policy.select(prompt, 20).kept[:, :, :4]).all()
    small = [values / 64**layer for layer, values in enumerate(prompt.values)]
    assert torch.equal(policy.select(replace(prompt, values=small, memo={}), 20).counts, counts)


def read_together(model: Model, ids: list[int], later: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Queries of the later tokens and keys of all, rotary applied, by one plain pass over prompt and later tokens."""
    queries, keys = asked_and_held(model, ids + later)
    places = list(range(len(ids) + len(later)))
    return [turned(model, q, places)[:, len(ids) :] for q in queries], [turned(model, k, places) for k in keys]


def softmax(logits: list[float]) -> list[float]:
    weights = [math.exp(each - max(logits)) for each in logits]
    return [each / sum(weights) for each in weights]


@pytest.mark.parametrize(("part", "sinks"), [(2000, 4), (11, 4), (5, 2)])
def test_reconstruction_is_the_most_attention_while_the_prompt_is_repeated(texty: Model, part: int, sinks: int) -> None:
    ids = random_ids(23)
    window = 3
    prompt = prefill(texty, ids, window=window, chunk=9)
    expected = [torch.zeros(texty.kv_heads, len(ids), dtype=torch.float64) for _ in range(texty.layers)]
    scorer = Reconstruction(sinks=sinks, part=part)
    parts = scorer._parts(texty, prompt)
    assert [(start, end) for start, end, _ in parts] == [(start, min(start + part, 23)) for start in range(0, 23, part)]
    group = texty.heads // texty.kv_heads
    for start, end, read in parts:
        said = texty.text(read[: len(read) - (end - start)])
        assert "Repeat the text above word for word" in said
        assert read[len(read) - (end - start) :] == ids[start:end]
        if start:
            assert said.endswith(texty.text(ids[max(start - 8, 0) : start]))
        queries, keys = read_together(texty, ids, read)
        for layer in range(texty.layers):
            for head in range(texty.heads):
                for new in range(len(read)):
                    places = [*range(min(sinks, start)), *range(start, end), *range(len(ids), len(ids) + new + 1)]
                    query = queries[layer][head, new]
                    logits = keys[layer][head // group, places] @ query / math.sqrt(texty.head_dim)
                    for place, weight in zip(places, softmax(logits.tolist()), strict=True):
                        if start <= place < end:
                            own = expected[layer][head // group]
                            own[place] = max(float(own[place]), weight)
    for layer in expected:
        layer[:, :sinks] = 1
    close(scorer(prompt), [layer[:, :-window] for layer in expected])


@pytest.mark.parametrize(("tokens", "queries"), [(6, "mean"), (50, "max")])
def test_pseudo_queries_ask_from_the_positions_of_the_answer(tiny: Model, tokens: int, queries: Any) -> None:
    ids, window = random_ids(20), 4
    later = ids[-tokens:]
    asked, keys = read_together(tiny, ids, later)
    group = tiny.heads // tiny.kv_heads
    expected = []
    for layer in range(tiny.layers):
        scores = torch.zeros(tiny.kv_heads, 16, dtype=torch.float64)
        for kv_head in range(tiny.kv_heads):
            by_head = []
            for head in range(kv_head * group, (kv_head + 1) * group):
                rows = [
                    softmax((keys[layer][kv_head, :20] @ query / math.sqrt(tiny.head_dim)).tolist())
                    for query in asked[layer][head]
                ]
                columns = list(zip(*rows, strict=True))[:16]
                by_head.append([max(each) if queries == "max" else sum(each) / len(each) for each in columns])
            mean = [sum(each) / group for each in zip(*by_head, strict=True)]
            scores[kv_head] = torch.tensor([max(mean[max(p - 1, 0) : p + 2]) for p in range(16)])
        expected.append(scores)
    prompt = prefill(tiny, ids, window=window)
    close(PseudoQueries(tokens, kernel=3, queries=queries)(prompt), expected)


def test_pseudo_queries_end_with_the_context(tmp_path: Path) -> None:
    model = load_model(str(save_tiny("llama", tmp_path, max_position_embeddings=32)), device="cpu")
    prompt = prefill(model, random_ids(30), window=4)
    for ours, two in zip(PseudoQueries(32)(prompt), PseudoQueries(2)(prompt), strict=True):
        assert torch.equal(ours, two)
    # A prompt that a longrope model reads with its short factors to the last token has no place for them at all.
    prompt.read_again_after = 30
    for ours, snap in zip(PseudoQueries(32)(prompt), get_policy("snapkv").scorer(prompt), strict=True):
        torch.testing.assert_close(ours, snap)


@pytest.mark.parametrize("name", NAMES)
def test_totals_are_exact_and_short_prompts_rank(texty: Model, name: str) -> None:
    for tokens in (9, 10, 40):
        prompt = prefill(texty, random_ids(tokens), window=8, query_moments=True)
        for budget in (9, 16, 33):
            choice = get_policy(name).select(prompt, budget)
            assert choice.total == min(budget, tokens) * texty.layers * texty.kv_heads
            assert choice.kept[:, :, -8:].all()
        for sinks in (0, 2, 12):
            get_policy(f"{name}:sinks={sinks}").select(prompt, 33)
    for tokens in (3, 8):
        prompt = prefill(texty, random_ids(tokens), window=8, query_moments=True)
        assert [tuple(layer.shape) for layer in get_policy(name).scorer(prompt)] == [(2, 0)] * 3


def test_what_rankings_lack_is_told(make_prompt: Any, tiny_llama: Model, texty: Model) -> None:
    bare = make_prompt(20)
    with pytest.raises(RequestError, match=r"holds no moments of its queries.*query_moments=True"):
        ExpectedAttention()(bare)
    for scorer in (Reconstruction(), PseudoQueries()):
        with pytest.raises(RequestError, match="reads the model, which this prompt does not know"):
            scorer(bare)
    with pytest.raises(RequestError, match="has no tokenizer, and text needs one"):
        Reconstruction()(prefill(tiny_llama, random_ids(20)))
    with pytest.raises(RequestError, match=r"beyond this one of 2000 tokens .*texty' has room for 48; use shorter"):
        Reconstruction()(prefill(texty, random_ids(2000)))
    # Parts become shorter where the context leaves less room.
    nearly = prefill(texty, random_ids(1900))
    sizes = {end - start for start, end, _ in Reconstruction()._parts(texty, nearly)}
    assert max(len(read) for _, _, read in Reconstruction()._parts(texty, nearly)) <= 148
    assert max(sizes) < 148
    for name in ("kvzip", "dapq"):
        with pytest.raises(RequestError, match=f"'{name}' has to see all layers at once"):
            get_policy(name).select_layer(prefill(texty, random_ids(40)), texty.layers, 16)
        found = compress(texty, random_ids(40), get_policy(name), 16)
        chosen = get_policy(name).select(prefill(texty, random_ids(40)), 16)
        assert torch.equal(torch.stack([layer.lengths[0] for layer in found.cache.layers]), chosen.counts)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("expected:future=0", "at least one position"),
        ("expected:sinks=-1", "sink tokens must be 0 or more"),
        ("expected:epsilon=-1", "0 or more, not -1"),
        ("kvzip:part=0", "At least one token is repeated"),
        ("kvzip:sinks=-1", "sink tokens must be 0 or more"),
        ("dapq:tokens=0", "at least one pseudo-query"),
        ("dapq:kernel=4", "odd"),
    ],
)
def test_options_that_cannot_be_are_refused(text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        get_policy(text)


def test_expected_attention_evicts_layer_by_layer_as_it_does_at_once(half_turned: Model, tmp_path: Path) -> None:
    scaling = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "original_max_position_embeddings": 64,
        "short_factor": [1.0] * 4,
        "long_factor": [1.0, 4.0, 7.0, 10.0],
    }
    changes = {"original_max_position_embeddings": 64, "rope_parameters": scaling}
    for model in (half_turned, load_model(str(save_tiny("phi3", tmp_path, **changes)), device="cpu")):
        for tokens in (60, 64, 90):
            policy = get_policy("expected")
            prompt = prefill(model, random_ids(tokens), query_moments=True)
            choice = policy.select(prompt, 16)
            kept: list[Tensor] = []
            run_layers(
                model,
                random_ids(tokens),
                lambda part, policy=policy, kept=kept, model=model: kept.append(
                    policy.select_layer(part, model.layers, 16)
                ),
                window=8,
                gathered=Signals(query_moments=True),
                chunk=2048,
            )
            assert torch.equal(torch.stack(kept), choice.kept)


def test_an_earlier_name_is_known_and_never_listed() -> None:
    assert get_policy("sinks-recency:sinks=2") == get_policy("sinks-recent:sinks=2")
    assert canonical("sinks-recency+adaptive") == "sinks-recent+adaptive"
    assert "sinks-recency" in SCORERS
    assert "sinks-recency" not in list(SCORERS)
    assert SCORERS.get("sinks-recency") is SinksRecency
    assert SCORERS.line("sinks-recency") == SCORERS.line("sinks-recent")
    with pytest.raises(RequestError, match="There is a scorer 'sinks-recency' already"):
        SCORERS.add("sinks-recency", "", SinksRecency)
