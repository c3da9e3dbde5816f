"""Selections and pyramid schedules against what the authors' own code gave.

Every stored case is checked. Where ours differs on purpose, the case has a test of its own that says why: it
reproduces the official answer from our parts plus the official rule, and shows what ours does instead.
"""

import functools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from cokv_bench.kvcache import Prompt, Selection
from cokv_bench.policies import get_policy
from cokv_bench.policies.allocators import adaptive, pyramid
from cokv_bench.policies.scorers import window_attention
from tests.golden.places import place, whole

GOLDEN = place("policies")

# Official rules that ours leaves on purpose; each has its own test below.
DEVIATIONS = {
    "ada_snapkv_14": "normalize=True: scales a head's scores for the allocation; not part of Ada-KV's Algorithm 1",
    "snapkv_kvcf_02": "max over the query heads of a group; METHODS 1 (GQA): mean",
    "pyramidkv_03": "KVCache-Factory: uniform where tokens < 2 * base; METHODS 3: one formula for every length",
    "cokv_given_08": "evicts a prompt of exactly B tokens; METHODS 1 (short prompts): none where n <= B",
}


@functools.cache
def cases() -> dict[str, dict[str, Any]]:
    index = json.loads((GOLDEN / "index.json").read_text())
    return {case["id"]: case for case in index["cases"] if case["kind"] == "selection"}


@functools.cache
def schedules() -> dict[str, Any]:
    return json.loads((GOLDEN / "pyramid_schedules.json").read_text())


def arrays_of(case: Mapping[str, Any]) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / case["file"]) as file:
        return {name: file[name] for name in file.files}


def official_positions(case: Mapping[str, Any]) -> list[list[list[int]]]:
    """Kept positions [layer][stored head]."""
    arrays = arrays_of(case)
    parts = np.split(arrays["kept_flat"], np.cumsum(arrays["kept_len"])[:-1])
    heads = case["shape"]["stored_heads"]
    return [[part.tolist() for part in parts[i : i + heads]] for i in range(0, len(parts), heads)]


def positions(choice: Selection) -> list[list[list[int]]]:
    return [[choice.positions(layer, h).tolist() for h in range(choice.kv_heads)] for layer in range(choice.layers)]


def prompt_of(case: Mapping[str, Any]) -> Any:
    """The stored queries and keys as a prompt; keys are repeated where the official code repeats them.

    A piece may have the queries of the window alone; then nothing is known of what earlier ones attend to.
    """
    arrays, shape, window = arrays_of(case), case["shape"], case["params"]["window"]
    queries, keys = torch.from_numpy(arrays["q"]).float(), torch.from_numpy(arrays["k"]).float()
    keys = keys.repeat_interleave(shape["stored_heads"] // shape["kv_heads"], dim=1)
    return Prompt(
        token_ids=torch.arange(shape["seq"]),
        window=window,
        keys=list(keys),
        values=list(keys),
        window_queries=[q[:, -window:] for q in queries],
        accumulated_attention=column_sums(queries, keys) if queries.shape[2] == shape["seq"] else None,
        logits=torch.zeros(8),
    )


def column_sums(queries: torch.Tensor, keys: torch.Tensor) -> list[torch.Tensor]:
    """Attention received over all queries, mean over the group: [kv_heads, tokens] a layer."""
    group, tokens = queries.shape[1] // keys.shape[1], queries.shape[2]
    logits = queries @ keys.repeat_interleave(group, dim=1).transpose(2, 3) / queries.shape[3] ** 0.5
    future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    received = logits.masked_fill(future, -torch.inf).softmax(-1).sum(2)
    return list(received.unflatten(1, (-1, group)).mean(2))


def select(case: Mapping[str, Any], prompt: Any) -> Selection:
    """Our named policy with the options of the case."""
    family, params, arrays = case["family"], case["params"], arrays_of(case)
    options: dict[str, Any] = {"published_rounding": True}
    if params.get("kernel"):
        options |= {"kernel": params["kernel"], "pooling": params["pooling"].removesuffix("pool")}
    budget = params.get("budget", params.get("base_capacity"))
    if family in ("ada_snapkv", "ada_pyramid"):
        assert params["skip"] == 0
        options |= {"safeguard": params["floor_alpha"]}
    if family in ("pyramidkv", "ada_pyramid"):
        options |= {"beta": params["beta"]}
    if family == "streamingllm":
        options |= {"sinks": params["sinks"]}
    if family in ("headkv", "cokv_given_size"):
        beyond = arrays["capacity_excl_window" if family == "headkv" else "given_size_excl_window"]
        options |= {"budgets": lambda _: beyond + params["window"]}
    if case["id"].startswith("headkv_kvcf"):
        budget += params["window"]  # this variant counts its budget on top of the window, ours includes it
    name = {
        "ada_pyramid": "ada-pyramid",
        "ada_snapkv": "ada-snapkv",
        "cokv_given_size": "cokv",
        "h2o": "h2o",
        "headkv": "headkv",
        "pyramidkv": "pyramidkv",
        "snapkv_gqa": "snapkv",
        "snapkv_mha": "snapkv",
        "streamingllm": "streaming-llm",
    }[family]
    if case["id"].startswith("h2o_cokv_qwen"):
        # What that code calls H2O looks at the window's queries only: SnapKV without pooling.
        name, options = "snapkv", {"kernel": 1}
    return get_policy(name, **options).select(prompt, budget)


def pooled_scores(case: Mapping[str, Any], prompt: Any) -> list[torch.Tensor]:
    kernel, pooling = case["params"]["kernel"], case["params"]["pooling"].removesuffix("pool")
    return [
        window_attention(q, k, kernel=kernel, pooling=pooling)
        for q, k in zip(prompt.window_queries, prompt.keys, strict=True)
    ]


def same_as_official(*, tie_free: bool) -> list[str]:
    return [name for name, case in cases().items() if case["tie_free"] == tie_free and name not in DEVIATIONS]


def budgets_by_layer_or_head() -> list[str]:
    families = ("ada_snapkv", "ada_pyramid", "pyramidkv")
    return [name for name, case in cases().items() if case["family"] in families and name not in DEVIATIONS]


@whole("policies")
def test_no_case_is_left_out():
    assert set(DEVIATIONS) <= set(cases())
    covered = {*same_as_official(tie_free=True), *same_as_official(tie_free=False), *DEVIATIONS}
    assert covered == set(cases())


@pytest.mark.parametrize("case_id", same_as_official(tie_free=True))
def test_named_policies_keep_what_the_official_code_keeps(case_id):
    case = cases()[case_id]
    choice = select(case, prompt_of(case))
    assert choice.counts.tolist() == arrays_of(case)["kept_len"].tolist()
    assert positions(choice) == official_positions(case)
    assert choice.total == case["total_kept"]


@pytest.mark.parametrize("case_id", same_as_official(tie_free=False))
def test_tied_scores_are_cut_among_the_tied_only(case_id):
    """Official tie-breaking is arbitrary; ours is the lower position first (METHODS 3, ties)."""
    case = cases()[case_id]
    arrays = arrays_of(case)
    sure, tied = torch.from_numpy(arrays["sure_mask"]).bool(), torch.from_numpy(arrays["tied_mask"]).bool()
    choice = select(case, prompt_of(case))
    assert choice.counts.tolist() == arrays["kept_len"].tolist()
    assert (sure <= choice.kept).all(), "a token that every tie-breaking keeps was evicted"
    assert (choice.kept <= (sure | tied)).all(), "a token that no tie-breaking keeps was kept"


@pytest.mark.parametrize("case_id", [n for n, case in cases().items() if "pooled_score" in case["arrays"]])
def test_pooled_scores(case_id):
    case = cases()[case_id]
    official = torch.from_numpy(arrays_of(case)["pooled_score"])
    ours = torch.stack(pooled_scores(case, prompt_of(case)))
    # The official code takes the sum over the window in some places and the mean in others: same ranking.
    torch.testing.assert_close(ours / ours.sum(), official / official.sum(), rtol=2e-5, atol=0)


@pytest.mark.parametrize("case_id", budgets_by_layer_or_head())
def test_exact_totals_stay_next_to_the_published_ones(case_id):
    """METHODS 3, rounding: by default the total is exact, and no head moves far for it."""
    case = cases()[case_id]
    prompt, params = prompt_of(case), case["params"]
    options = {"kernel": params["kernel"], "pooling": params["pooling"].removesuffix("pool")}
    options |= {"safeguard": params["floor_alpha"]} if "floor_alpha" in params else {}
    options |= {"beta": params["beta"]} if params["beta"] else {}
    choice = get_policy(case["family"].replace("_", "-"), **options).select(prompt, params["budget"])
    assert choice.total == min(params["budget"], prompt.tokens) * prompt.layers * prompt.kv_heads
    # Floored steps add up over the layers, and floor and rounding take up to two tokens of a head.
    drift = prompt.layers + 2
    assert (choice.counts - torch.from_numpy(arrays_of(case)["kept_len"])).abs().max() <= drift


@whole("policies")
def test_normalised_allocation_differs_in_the_allocation_only():
    case = cases()["ada_snapkv_14"]
    prompt, params = prompt_of(case), case["params"]
    base = params["budget"] - params["window"]
    scores = pooled_scores(case, prompt)
    rule = {"safeguard": params["floor_alpha"], "published_rounding": True}
    scaled = [s * (s.topk(base).values.sum(1, keepdim=True) / s.sum(1, keepdim=True)) for s in scores]
    official_counts = torch.stack([adaptive(s, base, **rule) for s in scaled])
    assert positions(Selection.from_scores(scores, official_counts, prompt.window)) == official_positions(case)
    ours = select(case, prompt)
    assert ours.counts.tolist() != arrays_of(case)["kept_len"].tolist()
    assert positions(ours) == positions(
        Selection.from_scores(scores, torch.stack([adaptive(s, base, **rule) for s in scores]), prompt.window)
    )


@whole("policies")
def test_group_maximum_differs_in_the_group_reduction_only():
    case = cases()["snapkv_kvcf_02"]
    prompt, params = prompt_of(case), case["params"]
    group = case["shape"]["q_heads"] // case["shape"]["kv_heads"]
    scores = []
    for queries, keys in zip(prompt.window_queries, prompt.keys, strict=True):
        per_head = window_attention(queries, keys.repeat_interleave(group, dim=0), kernel=1)
        largest = per_head.unflatten(0, (-1, group)).amax(1)
        scores.append(torch.nn.functional.max_pool1d(largest, params["kernel"], 1, params["kernel"] // 2))
    counts = torch.full((prompt.layers, prompt.kv_heads), params["budget"] - params["window"])
    assert positions(Selection.from_scores(scores, counts, prompt.window)) == official_positions(case)
    ours = select(case, prompt)
    assert ours.counts.tolist() == arrays_of(case)["kept_len"].tolist()
    assert positions(ours) != official_positions(case)


@whole("policies")
def test_uniform_pyramid_of_medium_prompts_is_snapkv():
    case = cases()["pyramidkv_03"]
    prompt, params = prompt_of(case), case["params"]
    assert params["budget"] < prompt.tokens < 2 * (params["budget"] - params["window"])
    assert positions(get_policy("snapkv").select(prompt, params["budget"])) == official_positions(case)
    ours = select(case, prompt)
    assert len(set(ours.counts[:, 0].tolist())) == prompt.layers
    assert ours.total == case["total_kept"]


@whole("policies")
def test_prompts_of_exactly_the_budget_are_kept_whole():
    case = cases()["cokv_given_08"]
    prompt, params = prompt_of(case), case["params"]
    assert prompt.tokens == params["base_capacity"]
    given = arrays_of(case)["given_size_excl_window"]
    choice = Selection.from_scores(pooled_scores(case, prompt), given, prompt.window)
    assert positions(choice) == official_positions(case)
    assert select(case, prompt) == Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)


@whole("policies")
def test_the_h2o_of_the_qwen_code_is_not_h2o():
    case = cases()["h2o_cokv_qwen_01"]
    prompt = prompt_of(case)
    assert positions(get_policy("h2o").select(prompt, case["params"]["budget"])) != official_positions(case)


@pytest.mark.parametrize("window", [1, 8, 36])
def test_streaming_llm_keeps_four_sinks_whatever_the_window(window):
    """The run scripts set the window to B - 4; with our own window the tokens are the same."""
    case = cases()["streamingllm_adakv_01"]
    prompt = prompt_of(case)
    prompt.window = window
    assert positions(get_policy("streaming-llm").select(prompt, case["params"]["budget"])) == official_positions(case)


@pytest.mark.parametrize("schedule", schedules().get("schedules", []), ids=lambda s: s["id"])
def test_pyramid_schedules(schedule):
    layers, window, budget, tokens = (schedule[k] for k in ("layers", "window", "budget", "seq"))
    base = budget - window
    shape = {"tokens": tokens, "window": window, "beta": schedule["beta"]}
    published = pyramid(layers, 2, base, **shape, published_rounding=True)
    assert published[:, 0].tolist() == schedule["adakv_adaptive_layer_base_excl_window"]
    assert published[:, 1].tolist() == schedule["adakv_adaptive_layer_base_excl_window"]
    # Prompts that fit are kept whole: the policy's rule, not the schedule's.
    kept = [min(count + window, tokens) if tokens > budget else tokens for count in published[:, 0].tolist()]
    assert kept == schedule["adakv_pyramid_snapkv_kept"]
    # KVCache-Factory alone is uniform where tokens < 2 * base; METHODS 3 has one formula for every length.
    factory = [min(budget, tokens)] * layers if tokens < 2 * base else kept
    assert factory == schedule["kvcache_factory_kept"]
    exact = pyramid(layers, 2, base, **shape)
    assert int(exact.sum()) == min(base, tokens - window) * layers * 2
    assert 2 * schedule["total_nominal"] == int(exact.sum()) + 2 * layers * window


@pytest.mark.parametrize("freeze", schedules().get("frozen_schedule_bug", []), ids=lambda f: f["id"])
def test_the_schedule_is_recomputed_for_every_prompt(freeze):
    """METHODS 3: AdaKV keeps the first prompt's schedule for all later ones, which is a bug."""
    shape = {"window": freeze["window"], "beta": freeze["beta"], "published_rounding": True}
    base = freeze["budget"] - freeze["window"]
    first = pyramid(freeze["layers"], 1, base, tokens=freeze["first_seq"], **shape)[:, 0].tolist()
    second = pyramid(freeze["layers"], 1, base, tokens=freeze["second_seq"], **shape)[:, 0].tolist()
    assert first == freeze["base_after_first"] == freeze["base_used_for_second_by_official"]
    assert second == freeze["base_for_second_if_recomputed"] != first
