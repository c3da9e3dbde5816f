"""Rankings that read values or the output projection, against loops in float64 that follow the formulas."""

from dataclasses import replace

import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.kvcache import prefill
from cokv_bench.kvcache.ranked import by_rank
from cokv_bench.kvcache.selection import rank_positions
from cokv_bench.policies import get_policy, projected
from cokv_bench.policies.projected import projected_norms
from cokv_bench.policies.scorers.critical import Critical
from cokv_bench.policies.scorers.damage import OutputDamage
from cokv_bench.policies.scorers.defensive import Defensive
from cokv_bench.policies.scorers.obcache import OptimalBrain
from tests.conftest import random_ids
from tests.policies import slowly

SCORERS = [OutputDamage(), OptimalBrain(), OptimalBrain("value"), OptimalBrain("key"), Critical(), Defensive()]


def close(found, expected, rtol=1e-4, atol=1e-6):
    torch.testing.assert_close(found.double(), torch.tensor(expected, dtype=torch.float64), rtol=rtol, atol=atol)


def read(prompt, layer):
    """Weights, products and, per head and query, the output; and the values of each query head."""
    weights, products = slowly.attention(prompt.window_queries[layer], prompt.keys[layer])
    group = weights.shape[0] // prompt.kv_heads
    values = prompt.values[layer].double().repeat_interleave(group, dim=0)
    return weights, products, weights @ values, values, group


@pytest.mark.parametrize("shape", slowly.SHAPES)
@pytest.mark.parametrize(("kernel", "pooling"), [(7, "max"), (3, "avg"), (1, "max")])
def test_damage_is_the_first_order_change_of_the_output(make_prompt, shape, kernel, pooling):
    prompt = slowly.prompt_of(make_prompt, **shape, seed=1)
    before = prompt.tokens - prompt.window
    for layer, found in enumerate(OutputDamage(kernel, pooling)(prompt)):
        weights, _, outputs, values, group = read(prompt, layer)
        expected = []
        for kv_head in range(prompt.kv_heads):
            row = []
            for p in range(before):
                squares = [
                    float(weights[head, q, p]) ** 2 * float((values[head, p] - outputs[head, q]).square().sum())
                    for head in range(kv_head * group, (kv_head + 1) * group)
                    for q in range(weights.shape[1])
                ]
                row.append((sum(squares) / len(squares)) ** 0.5)
            expected.append(slowly.pooled(row, kernel, pooling))
        close(found, expected)


def test_damage_tells_what_happens_to_the_output_without_the_token(make_prompt):
    """To first order in the attention; with many tokens none has much of it."""
    prompt = make_prompt(400, window=1, group=1, seed=3)
    found = OutputDamage(kernel=1)(prompt)[0]
    weights, _, outputs, values, _ = read(prompt, 0)
    for head in range(2):
        a = weights[head, 0, :-1]
        without = (outputs[head] - a[:, None] * values[head, :-1]) / (1 - a[:, None])
        moved = (without - outputs[head]).norm(dim=1)
        torch.testing.assert_close(found[head].double(), moved * (1 - a), rtol=1e-4, atol=1e-8)


def test_damage_of_a_token_that_takes_all_attention_is_not_lost_in_rounding(make_prompt):
    """v and o differ by less than float32 leaves of the difference of their squares."""
    prompt = make_prompt(60, window=2, group=2, seed=4)
    for layer in range(2):
        prompt.keys[layer][:, 0] = 0
        for queries in prompt.window_queries[layer]:
            queries[:] = torch.tensor([2.0, 0.0, 0.0, 0.0])
        prompt.keys[layer][:, 0, 0] = 16
        prompt.values[layer][:, 0] += 50
    found = OutputDamage(kernel=1)(prompt)[0]
    weights, _, outputs, values, group = read(prompt, 0)
    assert float(weights[:, :, 0].min()) > 0.999
    squares = weights[:, :, :58].square() * (values[:, None, :58] - outputs[:, :, None]).square().sum(-1)
    expected = squares.view(2, group, 2, 58).mean(dim=(1, 2)).sqrt()
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize("shape", slowly.SHAPES)
@pytest.mark.parametrize("by", ["value", "key", "joint"])
def test_obcache_is_the_formula(make_prompt, shape, by):
    prompt = slowly.prompt_of(make_prompt, **shape, seed=2)
    before = prompt.tokens - prompt.window
    for layer, found in enumerate(OptimalBrain(by, kernel=3)(prompt)):
        weights, products, outputs, values, group = read(prompt, layer)
        expected = []
        for kv_head in range(prompt.kv_heads):
            row = [0.0] * before
            for head in range(kv_head * group, (kv_head + 1) * group):
                for q in range(weights.shape[1]):
                    for p in range(before):
                        a, z = float(weights[head, q, p]), float(products[head, q, p])
                        v, o = values[head, p], outputs[head, q]
                        value = a**2 * float(v @ v)
                        key = (a * z) ** 2 * float((v - o) @ (v - o))
                        cross = 2 * a**2 * z * float(v @ v - v @ o)
                        row[p] += {"value": value, "key": key, "joint": value + key + cross}[by] / group
            expected.append(slowly.pooled(row, 3, "max"))
        close(found, expected)


@pytest.mark.parametrize("shape", [{**shape, "width": 5} for shape in slowly.SHAPES])
def test_projected_norms_are_means_over_the_group(make_prompt, shape, monkeypatch):
    prompt = slowly.prompt_of(make_prompt, **shape)
    for block in (2**22, 1):  # all tokens at once, and one by one
        monkeypatch.setattr(projected, "BLOCK_BYTES", block)
        prompt.shared.clear()
        for layer, found in enumerate(projected_norms(prompt, "A test")):
            close(found, slowly.norms(prompt, layer))


def test_projected_norms_are_computed_once_for_all_windows_and_not_for_another_order(make_prompt):
    prompt = make_prompt(20, width=5)
    found = projected_norms(prompt, "A test")
    assert projected_norms(prompt.with_window(2), "A test") is found
    ranks = torch.arange(15, -1, -1, dtype=torch.int32).expand(2, 2, 16)
    for layer, again in enumerate(projected_norms(by_rank(prompt, ranks), "A test")):
        torch.testing.assert_close(again[:, 4:], found[layer][:, :16].flip(1))


def test_projected_norms_of_every_architecture(tiny):
    prompt = prefill(tiny, random_ids(9), window=2)
    for layer, found in enumerate(projected_norms(prompt, "A test")):
        close(found, slowly.norms(prompt, layer))


@pytest.mark.parametrize("shape", [{**shape, "width": 5} for shape in slowly.SHAPES])
@pytest.mark.parametrize(("kernel", "pooling"), [(5, "avg"), (3, "max"), (1, "avg")])
def test_defensive_is_the_published_order_of_steps(make_prompt, shape, kernel, pooling):
    prompt = slowly.prompt_of(make_prompt, **shape, seed=5)
    before = prompt.tokens - prompt.window
    for layer, found in enumerate(Defensive(kernel, pooling)(prompt)):
        weights, _, _, _, group = read(prompt, layer)
        projections = slowly.norms(prompt, layer)
        expected = []
        for kv_head in range(prompt.kv_heads):
            rows = []
            for head in range(kv_head * group, (kv_head + 1) * group):
                for q in range(weights.shape[1]):
                    row = weights[head, q, :before].tolist()
                    wide = slowly.pooled(row, kernel, pooling)
                    rows.append([x * sum(row) / sum(wide) for x in wide])
            largest = [max(row[p] for row in rows) for p in range(before)]
            floor = sum(largest) / before
            mine = projections[kv_head][:before]
            expected.append([max(x, floor) * norm / sum(mine) for x, norm in zip(largest, mine, strict=True)])
        close(found, expected)


def test_defensive_survives_queries_that_look_at_the_window_alone(make_prompt):
    prompt = make_prompt(20, width=5)
    for layer in range(2):
        prompt.window_queries[layer][:] = 300.0
        prompt.keys[layer][:] = -1.0
        prompt.keys[layer][:, -4:] = 1.0
    for scores in Defensive()(prompt):
        assert torch.equal(scores, torch.zeros(2, 16))


def two_stages(scores, products, count):
    """The tokens that a head keeps, as the published code chooses them."""
    by_score, by_product = slowly.ranks(scores), slowly.ranks(products)
    first = {p for p, rank in enumerate(by_score) if rank < count // 2}
    rest = sorted(set(range(len(scores))) - first, key=lambda p: by_product[p])
    return first | set(rest[: count - len(first)])


def critical_parts(prompt, layer):
    scores = Critical()(prompt)[layer]
    before = prompt.tokens - prompt.window
    norms = torch.tensor(slowly.norms(prompt, layer), dtype=torch.float64)[:, :before]
    return scores.tolist(), ((scores.double() + 1e-4) * norms).tolist()


@pytest.mark.parametrize("split", ["uniform", "adaptive", "global"])
def test_critical_keeps_half_by_attention_and_half_by_the_product(make_prompt, split):
    prompt = make_prompt(40, width=5, seed=6)
    for budget in (5, 9, 20, 39):
        choice = get_policy(f"critical+{split}").select(prompt, budget)
        assert choice.total == budget * 4
        same = get_policy(f"window+{split}").select(prompt, budget)
        assert torch.equal(choice.counts, same.counts)
        for layer in range(2):
            scores, products = critical_parts(prompt, layer)
            for head in range(2):
                kept = set(choice.positions(layer, head).tolist()) - set(range(36, 40))
                assert kept == two_stages(scores[head], products[head], int(choice.counts[layer, head]) - 4)
    assert choice != same


def test_one_order_of_critical_serves_all_counts(make_prompt):
    prompt = make_prompt(40, width=5, seed=7)
    ranks = get_policy("critical").ranks(prompt)
    for layer in range(2):
        scores, products = critical_parts(prompt, layer)
        for head in range(2):
            mine = ranks[layer, head].tolist()
            assert sorted(mine) == list(range(36))
            by_score, by_product = slowly.ranks(scores[head]), slowly.ranks(products[head])
            for count in range(37):
                prefix = {p for p in range(36) if mine[p] < count}
                assert {p for p in range(36) if by_score[p] < count // 2} <= prefix
                assert {p for p in range(36) if by_product[p] < (count + 1) // 2} <= prefix


@pytest.mark.parametrize("budget", [9, 12, 25])
def test_the_stages_of_critical_share_out_what_protected_tokens_leave(make_prompt, budget):
    prompt = make_prompt(40, width=5, seed=8)
    choice = get_policy("critical:sinks=3").select(prompt, budget)
    assert choice.total == budget * 4
    for layer in range(2):
        scores, products = critical_parts(prompt, layer)
        for head in range(2):
            kept = set(choice.positions(layer, head).tolist()) - set(range(36, 40))
            rest = {place + 3 for place in two_stages(scores[head][3:], products[head][3:], budget - 7)}
            assert kept == {0, 1, 2} | rest


@pytest.mark.parametrize("scorer", SCORERS, ids=str)
@pytest.mark.parametrize("tokens", [1, 3, 4])
def test_short_prompts_have_no_columns(make_prompt, scorer, tokens):
    assert [each.shape for each in scorer(make_prompt(tokens, width=5))] == [(2, 0), (2, 0)]


@pytest.mark.parametrize("scorer", SCORERS, ids=str)
def test_half_precision_is_widened_before_any_product(make_prompt, scorer):
    def rounded(prompt, dtype):
        def of(part):
            return [layer.bfloat16().to(dtype) for layer in part]

        for block in prompt.model.network.get_decoder().layers:
            projection = block.self_attn.o_proj
            projection.weight = projection.weight.bfloat16().to(dtype)
        return replace(
            prompt, keys=of(prompt.keys), values=of(prompt.values), window_queries=of(prompt.window_queries), memo={}
        )

    half, wide = (rounded(make_prompt(30, width=5), dtype) for dtype in (torch.bfloat16, torch.float32))
    for a, b in zip(scorer(half), scorer(wide), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)
    if isinstance(scorer, Critical):
        ranks = [scorer.ranks(prompt, scorer(prompt), None) for prompt in (half, wide)]
        assert torch.equal(*ranks)


@pytest.mark.parametrize("scorer", [OutputDamage(), OptimalBrain("value"), Defensive(), Critical()], ids=str)
def test_the_size_of_the_values_changes_no_order(make_prompt, scorer):
    prompt = make_prompt(30, width=5)
    larger = replace(prompt, values=[4 * layer for layer in prompt.values], memo={}, shared={})

    def order(each):
        scores = scorer(each)
        return scorer.ranks(each, scores, None) if isinstance(scorer, Critical) else rank_positions(scores)

    assert torch.equal(order(prompt), order(larger))


def test_a_prompt_without_its_model_says_what_to_do(make_prompt):
    for name in ("critical", "defensive"):
        with pytest.raises(RequestError, match=f"Ranking '{name}' reads the model.*make prompts with prefill"):
            get_policy(name).select(make_prompt(20), 8)


@pytest.mark.parametrize("name", ["obcache:by=query", "damage:kernel=2", "defensive:kernel=4", "critical:pooling=sum"])
def test_options_that_mean_nothing_are_refused(name):
    with pytest.raises(RequestError):
        get_policy(name)
