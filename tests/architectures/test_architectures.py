"""Every architecture at toy size: answers are plain `generate`'s, and everything else that is run on a model runs.

The table of architectures in docs/models.md is what these tests find; with COKV_BENCH_WRITE_DOCS=1 they write it.
"""

import dataclasses
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from cokv_bench.errors import RequestError
from cokv_bench.game.head_game import make_game
from cokv_bench.kvcache import Generation, Prompt, RaggedCache, Selection, compress, decode, prefill
from cokv_bench.kvcache.batching import rows_at_a_time
from cokv_bench.kvcache.check import Outcome, compare
from cokv_bench.kvcache.decoding import Decoding
from cokv_bench.kvcache.joint import Joint
from cokv_bench.models import Model, load_model
from cokv_bench.models.projection import output_projection
from cokv_bench.policies import get_policy
from cokv_bench.policies.attention import window_of
from cokv_bench.report.layout import lay_out
from cokv_bench.runs.execute import execute
from cokv_bench.runs.journal import read_records
from cokv_bench.runs.plan import make_plan, variants_of
from cokv_bench.scores.tables import tabulate
from cokv_bench.search import SearchExamples, SearchLimits, search
from cokv_bench.search.examples import Point
from cokv_bench.tasks.registry import TaskOptions, resolve
from tests.architectures.toys import REFUSED, SIZES, TOYS, WINDOW, save_toy
from tests.conftest import random_ids

#: Longer than two windows of the layers that slide, so that these have dropped tokens.
TOKENS = 2 * WINDOW + 7
WORKING = [name for name in TOYS if name not in REFUSED]
PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- architectures: written by tests/architectures -->\n", "<!-- end -->\n"

Loader = Callable[[str], Model]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loader:
    """Loads a toy once."""
    folder = tmp_path_factory.mktemp("toys")

    @cache
    def load(name: str) -> Model:
        return load_model(str(save_toy(name, folder / name.replace(" ", ""))), device="cpu")

    return load


@pytest.fixture(scope="module")
def checked(loaded: Loader) -> Callable[[str], Outcome]:
    return cache(lambda name: compare(loaded(name)))


def full(prompt: Prompt) -> Selection:
    return Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)


def some(prompt: Prompt) -> list[Selection]:
    chosen = [get_policy(name).select(prompt, 14) for name in ("snapkv", "ada-snapkv", "h2o", "streaming-llm")]
    members = torch.arange(prompt.layers * prompt.kv_heads).view(prompt.layers, -1) % 2 == 0
    return [*chosen, Selection.from_coalition(members, prompt.tokens, prompt.window), full(prompt)]


@pytest.mark.parametrize("name", WORKING)
def test_a_full_cache_answers_as_generate_does(loaded: Loader, name: str) -> None:
    model, ids = loaded(name), random_ids(TOKENS, seed=1)
    # A chunk that divides nothing: the boundaries of windows and chunks lie inside.
    prompt = prefill(model, ids, chunk=15)
    asked = torch.tensor([ids])
    model.network.set_attn_implementation("eager")
    try:
        plain = model.network.generate(asked, max_new_tokens=12, do_sample=False)[0, TOKENS:].tolist()
    finally:
        model.network.set_attn_implementation("cokv_bench")
    for storage in ("shared", "ragged"):
        (answer,) = decode(model, prompt, [full(prompt)], max_new_tokens=12, storage=storage)
        assert answer.token_ids == plain
    # The compact cache is one that plain `generate` goes on from, whether cut from a prompt or while it was read.
    first = torch.cat([asked, prompt.logits.argmax().view(1, 1)], dim=1)
    for made in (RaggedCache(prompt, [full(prompt)]), compress(model, ids, get_policy("full"), None).cache):
        found = model.network.generate(first, past_key_values=made, max_new_tokens=11, do_sample=False)
        assert found[0, TOKENS:].tolist() == plain


@pytest.mark.parametrize("name", WORKING)
def test_the_storages_agree_for_evicted_caches(loaded: Loader, name: str) -> None:
    model = loaded(name)
    prompt = prefill(model, random_ids(TOKENS, seed=2), window=4)
    choices, question, answer = some(prompt), random_ids(3, seed=3), random_ids(5, seed=4)
    shared, ragged = (
        decode(model, prompt, choices, question=question, teacher=answer, storage=storage)
        for storage in ("shared", "ragged")
    )
    for one, other in zip(shared, ragged, strict=True):
        assert one.logprobs is not None
        torch.testing.assert_close(one.logprobs, other.logprobs, atol=1e-4, rtol=1e-4)
    assert any(not torch.allclose(row.logprobs, shared[-1].logprobs) for row in shared[:-1] if row.logprobs is not None)
    made = compress(model, prompt.token_ids, get_policy("snapkv"), 14, window=4)
    assert made.cache.kept_bytes == choices[0].total * model.bytes_per_token


@pytest.mark.parametrize("question", [(), (7, 8, 9)])
def test_prompts_whose_rows_decode_together_answer_as_alone(
    loaded: Loader, checked: Callable[[str], Outcome], question: tuple[int, ...]
) -> None:
    served = 0
    for name in WORKING:
        if not checked(name).lean:
            continue
        model = loaded(name)
        prompts = [prefill(model, random_ids(tokens, seed=tokens), window=4) for tokens in (60, 90)]
        asked = [Decoding(prompt, some(prompt), 10, question) for prompt in prompts]
        if not Joint.serves(model, asked[0]):
            continue
        served += 1
        joint = Joint(model)
        names = [joint.admit(request) for request in asked]
        found: dict[object, list[Generation]] = {}
        while len(found) < len(names):
            found.update(joint.advance())
        assert [found[each] for each in names] == [request.alone(model) for request in asked], name
    # Llama, mixtures of experts, capped logits: many networks have only layers that are evicted.
    assert served >= 8


@pytest.mark.parametrize("name", ["gemma3_text", "llama4_text", "qwen3_next", "lfm2"])
@pytest.mark.parametrize("storage", ["shared", "ragged"])
def test_rows_that_finish_leave_with_what_other_layers_hold(
    loaded: Loader, name: str, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(name)
    prompt = prefill(model, random_ids(TOKENS, seed=5), window=4)
    choices = some(prompt)
    monkeypatch.setitem(model.__dict__, "stop_ids", frozenset())
    free = [decode(model, prompt, [each], max_new_tokens=12, storage=storage)[0].token_ids for each in choices]
    stop = max(
        {token for ids in free for token in ids},
        key=lambda token: len({ids.index(token) if token in ids else 99 for ids in free}),
    )
    monkeypatch.setitem(model.__dict__, "stop_ids", frozenset([stop]))
    expected = [ids[: ids.index(stop) + 1] if stop in ids else ids for ids in free]
    assert len({len(ids) for ids in expected}) > 1
    rows = decode(model, prompt, choices, max_new_tokens=12, storage=storage)
    assert [row.token_ids for row in rows] == expected


@pytest.mark.parametrize("name", WORKING)
def test_games_and_searches_run(loaded: Loader, texty: Model, tmp_path: Path, name: str) -> None:
    model = dataclasses.replace(loaded(name), tokenizer=texty.tokenizer)
    tasks = resolve(["needle"], model, TaskOptions(lengths=(230,), examples=3))
    game = make_game(model, tasks, "loglik", window=4)
    everybody = torch.ones(1, game.players, dtype=torch.bool).numpy()
    found = game.measure(game.coalitions(everybody))[0]
    examples = SearchExamples(model, tasks, ["loglik"], window=4)
    # A search scores whole caches as the game does; the first token of an answer counts in neither.
    assert [examples.full(case) for case in range(3)] == pytest.approx(found.tolist(), abs=1e-4)
    shares = search(examples, tmp_path, [24], seed=1, stopping=SearchLimits(steps=2))
    assert shares.tables[0].shape == (model.layers, model.kv_heads)


@pytest.mark.parametrize("name", ["gemma2", "gpt_oss", "llama4_text", "qwen3_next", "granite"])
def test_gradients_are_those_of_more_and_fewer_tokens(loaded: Loader, texty: Model, name: str) -> None:
    """Not finite differences, since a budget is a step: the rows of a batch are those of each alone, gradients too."""
    model = dataclasses.replace(loaded(name), tokenizer=texty.tokenizer)
    tasks = resolve(["needle"], model, TaskOptions(lengths=(230,), examples=2))
    examples = SearchExamples(model, tasks, ["loglik"], window=4)
    points = [Point(case, budget) for budget in (16, 24) for case in (0, 1)]

    def gradient(chosen: list[Point]) -> torch.Tensor:
        shares = torch.zeros(len(chosen), model.layers, model.kv_heads, requires_grad=True)
        examples.score(chosen, list(shares), [1.0] * len(chosen))
        assert shares.grad is not None
        return shares.grad

    together = gradient(points)
    assert together.abs().sum() > 0
    for place, point in enumerate(points):
        torch.testing.assert_close(together[place], gradient([point])[0], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["gemma2", "gpt_oss", "llama4_text", "granite", "qwen3_next"])
def test_rankings_see_the_attention_that_the_model_computes(loaded: Loader, name: str) -> None:
    """An independent reference: the weights that transformers' eager attention tells, soft caps and sinks included."""
    model, ids = loaded(name), random_ids(TOKENS, seed=6)
    prompt = prefill(model, ids, window=4, chunk=15)
    model.network.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            told = model.network(torch.tensor([ids]), output_attentions=True, use_cache=False).attentions
    finally:
        model.network.set_attn_implementation("cokv_bench")
    # Layers that keep a state tell none.
    weights = told if len(told) == model.layers else [told[number] for number in model.evicted_layers]
    assert prompt.accumulated_attention is not None
    for layer, (whole,) in enumerate(weights):
        torch.testing.assert_close(window_of(prompt, layer).flatten(0, 1), whole[:, -4:], atol=1e-4, rtol=1e-3)
        received = whole.sum(dim=1).view(model.kv_heads, -1, TOKENS).mean(dim=1)
        torch.testing.assert_close(prompt.accumulated_attention[layer], received, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "gpt_oss", "gemma3_text", "qwen3_next"])
def test_rankings_that_read_on_or_read_weights_run(loaded: Loader, texty: Model, name: str) -> None:
    model = dataclasses.replace(loaded(name), tokenizer=texty.tokenizer)
    prompt = prefill(model, random_ids(TOKENS, seed=7), window=32)
    methods = [f"{ranking}+uniform" for ranking in ("laq", "dapq", "kvzip", "tova", "obcache")]
    # A window's queries and budget are the methods' own or the prompt's.
    choices = [get_policy(name).within(8).select(prompt, 16) for name in (*methods, "critical-ada", "lava", "cake")]
    shared, ragged = (
        decode(model, prompt, choices, teacher=random_ids(4, seed=8), storage=storage)
        for storage in ("shared", "ragged")
    )
    for one, other in zip(shared, ragged, strict=True):
        assert one.logprobs is not None
        torch.testing.assert_close(one.logprobs, other.logprobs, atol=1e-4, rtol=1e-4)


def test_the_text_decoder_of_a_model_for_images_is_run(tmp_path: Path) -> None:
    settings = {**SIZES, **TOYS["gemma3_text"]}
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Gemma3Config(
        text_config=settings,
        vision_config={**small, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
        image_token_index=259,
        boi_token_index=257,
        eoi_token_index=258,
    )
    transformers.Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    model, ids = load_model(str(tmp_path), device="cpu"), random_ids(TOKENS)
    assert (model.layers, model.network_layers, model.kv_heads, model.context) == (2, 4, 2, 512)
    plain = model.network.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)[0, TOKENS:].tolist()
    prompt = prefill(model, ids)
    assert decode(model, prompt, [full(prompt)], max_new_tokens=8)[0].token_ids == plain


@pytest.mark.parametrize("name", ["llama", "gemma3_text"])
def test_records_tell_what_no_method_evicts(loaded: Loader, texty: Model, tmp_path: Path, name: str) -> None:
    model = dataclasses.replace(loaded(name), tokenizer=texty.tokenizer)
    tasks = resolve(["needle"], model, TaskOptions(lengths=(230,), examples=2))
    variants = variants_of({each: lambda _, each=each: get_policy(each) for each in ("full", "snapkv")}, [16])
    settings = {"window": 4, "split": "test", "seed": 0, "settings": {}, "profiled": {}}
    execute(make_plan(model, tasks, {task.name: variants for task in tasks}, [16], **settings), tmp_path)
    records = read_records(tmp_path)
    # Two layers of a window but its newest token, keys and values.
    window = 2 * (WINDOW - 1) * 2 * model.kv_heads * model.head_dim * 4
    for record in records:
        assert record["kv_bytes"] == record["kept_tokens"] * model.bytes_per_token
        assert record["method"] == "full" or record["kept_tokens"] == 16 * model.layers * model.kv_heads
        assert record.get("other_bytes") == (window if name == "gemma3_text" else None)
    results = tabulate(tmp_path)
    assert ("other_bytes" in results.tables["scores.csv"]) == (name == "gemma3_text")
    notes = " ".join(lay_out(results.tables, results.configuration).notes)
    assert ("Layers that are not evicted hold" in notes) == (name == "gemma3_text")


@pytest.mark.parametrize("name", ["llama", "phi3", "qwen3_moe", "stablelm", "olmo2"])
def test_moments_of_queries_are_gathered_where_rotary_can_be_taken_off(loaded: Loader, name: str) -> None:
    assert prefill(loaded(name), random_ids(TOKENS), query_moments=True).query_moments


@pytest.mark.parametrize("name", ["smollm3", "glm4", "ernie4_5", "granite", "gemma2"])
def test_moments_of_queries_are_refused_elsewhere(loaded: Loader, name: str) -> None:
    """Layers without rotary, neighbours that are turned together, a decoder that is called as a whole."""
    with pytest.raises(RequestError, match="before rotary"):
        prefill(loaded(name), random_ids(TOKENS), query_moments=True)


@pytest.mark.parametrize(("name", "words"), REFUSED.items())
def test_what_cannot_be_right_is_refused_with_the_reason(loaded: Loader, name: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as refusal:
        prefill(loaded(name), random_ids(TOKENS))
    assert len(str(refusal.value)) <= 400


@pytest.mark.parametrize("name", ["gemma3_text", "falcon_h1"])
def test_prompts_of_hybrids_go_to_the_disk_and_not_to_files(
    loaded: Loader, texty: Model, tmp_path: Path, name: str
) -> None:
    model = dataclasses.replace(loaded(name), tokenizer=texty.tokenizer)
    tasks = resolve(["needle"], model, TaskOptions(lengths=(230,), examples=2))
    roomy, tight = (make_game(model, tasks, "loglik", window=4, memory_limit=limit) for limit in (2**30, 1))
    members = (torch.arange(2 * roomy.players).view(2, -1) % 3 == 0).numpy()
    found, spilled = (game.measure(game.coalitions(members)) for game in (roomy, tight))
    assert (roomy.prompts.spilled, tight.prompts.spilled) == (0, 2)
    np.testing.assert_allclose(found, spilled, atol=1e-5)
    with pytest.raises(RequestError, match="search without --prompts"):
        SearchExamples(model, tasks, ["loglik"], window=4, prompts=tmp_path)


def test_batches_leave_room_for_what_each_row_holds_besides(loaded: Loader) -> None:
    model = loaded("gemma3_text")
    prompt = prefill(model, random_ids(TOKENS))
    own = 9 * prompt.layers * prompt.kv_heads * model.bytes_per_token
    memory = 3 * (own + prompt.others.nbytes)
    assert rows_at_a_time(model, prompt, tokens_a_pass=1, reserve=9, memory=memory) == 3
    assert prompt.others.rows(5).nbytes == 5 * prompt.others.nbytes


def test_fingerprints_count_what_is_evicted(loaded: Loader) -> None:
    plain, hybrid = loaded("llama").fingerprint, loaded("gemma3_text").fingerprint
    assert set(plain) == {"id", "layers", "kv_heads", "head_dim", "weights"}
    assert (plain["layers"], hybrid["layers"], hybrid["evicted_layers"]) == (4, 2, [1, 3])
    assert output_projection(loaded("gemma3_text"), 1).shape == (4, 8, 32)
    weight = loaded("gemma3_text").network.model.layers[3].self_attn.o_proj.weight
    assert torch.equal(output_projection(loaded("gemma3_text"), 1)[0], weight[:, :8].T)


@pytest.mark.parametrize("name", WORKING)
def test_slices_of_the_output_projection_are_the_modules_own(name: str, loaded: Loader) -> None:
    model = loaded(name)
    if name == "zamba2":  # Its attention is shared between layers, in no layer's block.
        with pytest.raises(RequestError, match="choose a ranking that does not read it"):
            output_projection(model, 0)
        return
    for layer, place in enumerate(model.evicted_layers):
        slices = output_projection(model, layer)
        (module,) = [
            part
            for path, part in model.decoder.named_modules()
            if re.fullmatch(rf"(layers|h)\.{place}(\.\w*(attn|attention|mixer))?\.(o_proj|out_proj|c_proj)", path)
        ]
        heads = torch.randn(slices.shape[:2], generator=torch.Generator().manual_seed(layer))
        with torch.no_grad():
            told = module(heads.flatten()) - module(torch.zeros_like(heads.flatten()))
        torch.testing.assert_close(torch.einsum("hd,hdw->w", heads, slices), told, atol=1e-5, rtol=1e-4)


def test_the_table_in_the_docs_is_current(loaded: Loader, checked: Callable[[str], Outcome]) -> None:
    rows = [line(name, loaded, checked) for name in TOYS]
    head = ["| architecture | works, or is refused because | layers evicted | read |", "| --- | --- | --- | --- |"]
    table = "\n".join([*head, *rows]) + "\n"
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    current = before + BEGIN + "\n" + table + "\n" + END + after
    if os.environ.get("COKV_BENCH_WRITE_DOCS"):
        PAGE.write_text(current, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == current


def line(name: str, loaded: Loader, checked: Callable[[str], Outcome]) -> str:
    try:
        outcome = checked(name)
    except RequestError as refusal:
        reason = str(refusal).partition("cannot be used: ")[2].partition("; ")[0]
        return f"| {name} | refused: {reason} | | |"
    model = loaded(name)
    evicted = "all" if model.layers == model.network_layers else f"{model.layers} of {model.network_layers}"
    return f"| {name} | works | {evicted} | {'layer by layer' if outcome.lean else 'as a whole'} |"
