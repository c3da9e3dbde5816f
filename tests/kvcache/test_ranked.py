"""Scores by prefixes of ranked tokens: the same as decoding, and a gradient that tells what a token is worth."""

from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr

from cokv_bench import decode, get_policy, load_model, prefill
from cokv_bench.kvcache import Prompt, Selection
from cokv_bench.kvcache.ranked import RankedRow, answer_logprobs, by_rank
from cokv_bench.models import Model
from tests.conftest import random_ids, save_tiny

WINDOW = 4


def prompts(model: Model, *lengths: int) -> list[tuple[Prompt, torch.Tensor]]:
    found = [prefill(model, random_ids(length, seed=length), window=WINDOW) for length in lengths]
    return [(prompt, get_policy("snapkv").ranks(prompt)) for prompt in found]


def test_each_head_keeps_the_window_and_then_its_tokens_by_rank(tiny_llama: Model) -> None:
    ((prompt, ranks),) = prompts(tiny_llama, 30)
    ordered = by_rank(prompt, ranks)
    for layer in range(prompt.layers):
        for head in range(prompt.kv_heads):
            order = [*range(26, 30), *ranks[layer, head].argsort().tolist()]
            assert torch.equal(ordered.keys[layer][head], prompt.keys[layer][head, order])
            assert torch.equal(ordered.values[layer][head], prompt.values[layer][head, order])
    assert not ordered.memo


@pytest.mark.parametrize("asked", [0, 3])
def test_scores_are_those_of_decoding_what_the_counts_keep(tiny: Model, asked: int) -> None:
    torch.manual_seed(1)
    rows, expected = [], []
    for index, (prompt, ranks) in enumerate(prompts(tiny, 25, 40, 33)):
        kept = torch.randint(0, prompt.tokens - WINDOW + 1, ranks.shape[:2])
        question, answer = torch.tensor(random_ids(asked, seed=90 + index)), torch.tensor(random_ids(4 + index))
        row = RankedRow(by_rank(prompt, ranks), question.long(), answer, kept)
        rows += [row, RankedRow(row.prompt, row.question, row.answer, kept, kept + 0.25, of_tokens=torch.min)]
        choice = Selection.from_ranks(ranks, kept, WINDOW)
        (generation,) = decode(tiny, prompt, [choice], teacher=answer, question=question)
        assert generation.logprobs is not None
        scored = generation.logprobs[0 if asked else 1 :]
        expected += [float(scored.mean()), float(scored.min())]
    with torch.no_grad():
        assert answer_logprobs(tiny, rows).tolist() == pytest.approx(expected, abs=1e-4)


def test_a_dropped_token_of_the_highest_score_hides_nothing(tiny_llama: Model) -> None:
    ((prompt, ranks),) = prompts(tiny_llama, 30)
    ordered = by_rank(prompt, ranks)
    for keys in ordered.keys:
        keys[:, WINDOW + 2] *= 1e4
    answer, kept = torch.tensor(random_ids(5)), torch.full(ranks.shape[:2], 2)
    rows = [
        RankedRow(ordered, torch.tensor([], dtype=torch.long), answer, kept, wanted) for wanted in (None, kept + 0.0)
    ]
    with torch.no_grad():
        plain, seen = answer_logprobs(tiny_llama, rows).tolist()
    assert seen == pytest.approx(plain, abs=1e-5)


def test_the_gradient_ranks_the_heads_by_what_more_tokens_bring(tmp_path: Path) -> None:
    """Beside the differences that it stands for, in a model smooth enough that small ones add up."""
    model = load_model(str(save_tiny("llama", tmp_path, initializer_range=0.04)), device="cpu")
    found = []
    for seed, (prompt, ranks) in enumerate(prompts(model, *range(60, 100, 4))):
        ordered, question = by_rank(prompt, ranks), torch.tensor([], dtype=torch.long)
        answer, kept = torch.tensor(random_ids(8, seed=seed)), torch.full(ranks.shape[:2], 12)
        wanted = kept.float().requires_grad_(True)
        answer_logprobs(model, [RankedRow(ordered, question, answer, kept, wanted)]).sum().backward()
        differences = torch.zeros(kept.shape)
        with torch.no_grad():
            for place in torch.cartesian_prod(*map(torch.arange, kept.shape)).tolist():
                more, less = kept.clone(), kept.clone()
                more[tuple(place)] += 4
                less[tuple(place)] -= 4
                rows = [RankedRow(ordered, question, answer, each) for each in (more, less)]
                high, low = answer_logprobs(model, rows)
                differences[tuple(place)] = high - low
        assert wanted.grad is not None
        found.append(spearmanr(wanted.grad.flatten(), differences.flatten()).statistic)
    assert sum(found) / len(found) > 0.6
