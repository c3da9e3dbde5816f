"""`export --to transformers`: a folder gives, without this package, token by token what `decode` gives with it."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench import decode, get_policy, prefill
from cokv_bench.budgets import HeadBudgets, HeadFile, HeadScores, HeadValues, embedded, load_head_file
from cokv_bench.errors import LONGEST, RequestError
from cokv_bench.exports import Request
from cokv_bench.exports.custom_generate import ROOM, heads_of, policy_of, program, write
from cokv_bench.exports.programs import generate as exported
from cokv_bench.models import Model, load_model
from cokv_bench.policies.attention import attention, pooled
from cokv_bench.policies.scorers.fading import FadingQueries
from cokv_bench.policies.scorers.window_attention import window_attention
from tests.conftest import random_ids, save_tiny
from tests.exports.made import TOY, elsewhere, shares

KINDS = ("llama", "mistral", "phi3", "qwen2", "qwen3")
RANKINGS: dict[str, dict[str, Any]] = {
    "window": {},
    "wide": {"window": 6, "kernel": 3, "pooling": "avg", "scorer": "window:observe=12:queries=max"},
    "fading": {"scorer": "fading:observe=32"},
    "sinks": {"scorer": "fading:half=4:sinks=3:width=5"},
}
BUDGETS, NEW = (8, 20, 47), 40
PROMPTS = [random_ids(40, 1), random_ids(150, 2)]


def expected(model: Model, file: HeadFile, prompts: list[list[int]], budgets: tuple[int, ...], new: int) -> Any:
    """New ids by prompt and budget, what each head keeps, and what the full cache answers, as this package has it."""
    policy, found, full = policy_of(file), [], []
    for ids in prompts:
        prompt = prefill(model, ids, window=policy.sees(1), accumulated_attention=False)
        chosen = [policy.select(prompt, budget) for budget in budgets]
        shared = decode(model, prompt, chosen, max_new_tokens=new)
        ragged = decode(model, prompt, chosen, max_new_tokens=new, storage="ragged")
        assert [each.token_ids for each in shared] == [each.token_ids for each in ragged]
        found += [
            {"ids": answer.token_ids, "counts": choice.counts.tolist()}
            for answer, choice in zip(shared, chosen, strict=True)
        ]
        everything = type(chosen[0]).full(prompt.layers, prompt.kv_heads, prompt.tokens)
        full += decode(model, prompt, [everything], max_new_tokens=new)
    return found, [answer.token_ids for answer in full]


@pytest.fixture(scope="module")
def tiny_exports(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """By architecture and ranking: the model, the head file, the budgets, and what transformers alone answered."""
    folder = tmp_path_factory.mktemp("exports")
    models = {kind: load_model(str(save_tiny(kind, folder / kind)), device="cpu") for kind in KINDS}
    files: dict[tuple[str, str], HeadFile] = {
        (kind, name): shares(model.fingerprint, **options)
        for kind, model in models.items()
        for name, options in RANKINGS.items()
    }
    llama = models["llama"].fingerprint
    rest = {"estimator": "ssv", "samples": 1, "seed": 0, "utility": "loglik", "window": 4, "tasks": (), "examples": ()}
    values = HeadValues(np.arange(6.0).reshape(3, 2), np.ones((3, 2)), model=llama, **rest)  # type: ignore[arg-type]
    scores = HeadScores({**llama, "heads": 6}, np.arange(18.0).reshape(3, 6), "by hand", (), ())
    files |= {("llama", "values"): values, ("llama", "scores"): scores}
    cases = []
    for (kind, name), file in files.items():
        budgets = () if name in RANKINGS else (16, 20, 47)
        written = write(Request(file, Path(f"{kind}-{name}.json"), budgets, out=folder / f"{kind}-{name}"))
        asked = {"model": models[kind].name, "folder": str(written.path), "prompts": PROMPTS, "new": NEW}
        cases.append({**asked, "budgets": budgets or BUDGETS})
    found = elsewhere("plain_transformers.py", cases, folder)
    return {
        key: (models[key[0]], files[key], case["budgets"], answers)
        for key, case, answers in zip(files, cases, found, strict=True)
    }


@pytest.mark.parametrize(
    "key", [*((kind, name) for kind in KINDS for name in RANKINGS), ("llama", "values"), ("llama", "scores")]
)
def test_a_folder_gives_what_decode_gives(key: tuple[str, str], tiny_exports: dict[tuple[str, str], Any]) -> None:
    model, file, budgets, found = tiny_exports[key]
    wanted, full = expected(model, file, PROMPTS, budgets, NEW)
    assert [{"ids": each["ids"], "counts": each["counts"]} for each in found] == wanted
    # The prompt of 40 tokens is kept whole at a budget of 47.
    assert found[2]["ids"] == full[0]
    assert [np.sum(each["counts"]) for each in found] == [6 * min(b, len(ids)) for ids in PROMPTS for b in budgets]
    # What is evicted matters to the answers, or they would prove little.
    assert len({tuple(each["ids"]) for each in found[3:]} | {tuple(full[1])}) > 1
    # A head keeps its tokens, room for generated ones, and no more: 2 tensors of `head_dim` floats of 4 bytes.
    for each in found:
        room = -(-(len(each["ids"]) - 1) // ROOM) * ROOM
        assert each["bytes"] == (np.sum(each["counts"]) + 6 * room) * 2 * model.head_dim * 4


@pytest.mark.model
def test_the_embedded_model_gives_the_same_tokens(embedded: Model, tmp_path: Path) -> None:
    from cokv_bench.budgets.embedded import shares_path

    essays = Path(exported.__file__).parents[2] / "tasks" / "made" / "haystack"
    text = "\n".join(essay.read_text(encoding="utf-8") for essay in sorted(essays.glob("*.txt")))
    prompts = [embedded.text_tokenizer.encode(text[:6000], add_special_tokens=False)[:400]]
    (model_file,) = embedded.files
    asked = {"model": str(model_file.parent), "prompts": prompts, "budgets": (32, 64), "new": 8}
    files, cases = [], []
    for number, ranking in enumerate(({}, {"window": 4, "scorer": "fading:observe=32"})):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps({**json.loads(shares_path().read_bytes()), **ranking}))
        files.append(load_head_file(path))
        cases.append({**asked, "folder": str(write(Request(files[-1], path, out=tmp_path / f"folder{number}")).path)})
    for file, found in zip(files, elsewhere("plain_transformers.py", cases, tmp_path), strict=True):
        wanted, full = expected(embedded, file, prompts, (32, 64), 8)
        assert [{"ids": each["ids"], "counts": each["counts"]} for each in found] == wanted
        assert [np.sum(each["counts"]) for each in found] == [32 * 90, 64 * 90]
        assert found[0]["ids"] != full[0]


# ---- The parts of the program


def heads(file: HeadFile | None = None, budgets: tuple[int, ...] = ()) -> dict[str, Any]:
    return json.loads(json.dumps(heads_of(Request(file or shares(TOY), Path("toy.json"), budgets))))  # type: ignore[no-any-return]


@given(st.integers(5, 300), st.integers(1, 400), st.integers(0, 9), st.booleans())
def test_the_program_counts_the_tokens_of_the_package(budget: int, longer: int, seed: int, table: bool) -> None:
    file = shares(TOY, seed=seed)
    tokens, policy = budget + longer, policy_of(file)
    told = heads(file)
    if table:
        told = {**{key: told[key] for key in ("model", "ranking", "default_budget")}}
        told["tokens"] = {str(budget): file.tokens_at(budget).tolist()}
    prompt: Any = SimpleNamespace(tokens=tokens, window=4, layers=3, kv_heads=2)
    assert policy.allocator is not None
    counts = policy.allocator(prompt, [], budget).numpy() + 4
    found = exported.tokens_per_head(told, budget, tokens)
    np.testing.assert_array_equal(found, counts)
    assert found.sum() == budget * 6
    assert exported.tokens_per_head(told, budget, budget).tolist() == [[budget] * 2] * 3


@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 12), st.integers(2, 40), st.sampled_from((1, 3, 9, 31)),
    st.sampled_from(("max", "avg")), st.sampled_from(("mean", "max")), st.integers(0, 99),
)  # fmt: skip
def test_the_program_ranks_as_the_package(
    kv_heads: int, group: int, observe: int, before: int, kernel: int, pooling: Any, over: Any, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    window, tokens = 4, before + max(observe, 4)
    queries = torch.randn(kv_heads * group, observe, 8, generator=generator)
    keys = torch.randn(kv_heads, tokens, 8, generator=generator)
    ranking = {"name": "window", "window": window, "kernel": kernel, "pooling": pooling, "queries": over}
    wanted = window_attention(queries, keys, kernel=kernel, pooling=pooling, over=over, scaling=0.4, window=window)
    torch.testing.assert_close(exported.rank_scores(ranking, 16, queries, keys, 0.4), wanted)
    # By the words of the ranking: the most that a query looks at a token, halved with the query's age.
    scorer = FadingQueries(half=3.0).at(24)
    seen = attention(queries, keys, 0.4, own=observe)[..., : tokens - window]
    most = torch.stack([seen[:, :, -1 - age] * 0.5 ** (age / 3) for age in range(observe)]).amax(dim=0)
    wanted = pooled(most.mean(dim=1), scorer.width or 0, "avg")
    ranking = {"name": "fading", "window": window, "half": 3.0, "phrase": scorer.phrase, "width": None}
    found = exported.rank_scores({**ranking, "narrowest": 3, "widest": 31}, 24, queries, keys, 0.4)
    torch.testing.assert_close(found, wanted)


def test_equal_scores_and_first_tokens() -> None:
    ranking = {"window": 2, "sinks": 2}
    scores = torch.tensor([[0.0, 0.0, 1.0, 2.0, 1.0, 1.0]])
    kept = [exported.kept_positions(ranking, scores, [count])[0].tolist() for count in (4, 5, 6, 8)]
    assert kept == [[0, 1, 6, 7], [0, 1, 3, 6, 7], [0, 1, 2, 3, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7]]
    with pytest.raises(ValueError, match="not a number"):
        exported.kept_positions(ranking, scores * float("nan"), [4])


@pytest.fixture
def network(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A plain network of transformers, and the program with numbers for it."""
    monkeypatch.setattr(exported, "HEADS", heads(shares(tiny_llama.fingerprint)))
    return transformers.AutoModelForCausalLM.from_pretrained(tiny_llama.name, dtype=torch.float32)


def test_the_options_of_generate_work(network: Any) -> None:
    ids = torch.tensor([random_ids(60)])
    greedy = exported.generate(network, ids, budget=12, max_new_tokens=12, do_sample=False)
    sampled = exported.generate(network, inputs=ids, budget=12, max_new_tokens=12, do_sample=True, top_k=1)
    assert sampled.tolist() == greedy.tolist()
    streamed: list[int] = []
    streamer = SimpleNamespace(put=lambda value: streamed.extend(value.flatten().tolist()), end=lambda: None)
    exported.generate(network, ids, budget=12, max_new_tokens=12, do_sample=False, streamer=streamer)
    assert streamed == greedy[0].tolist()
    # Where nobody names a budget it is the file's.
    answer = exported.generate(network, ids, max_new_tokens=2, do_sample=False, return_dict_in_generate=True)
    assert [layer.counts for layer in answer.past_key_values.layers] == [[60, 60]] * 3
    # A plain cache is still a plain cache, whatever has been registered.
    network.set_attn_implementation(exported.IMPLEMENTATION)
    plain = network.generate(ids, max_new_tokens=12, do_sample=False)
    network.set_attn_implementation("sdpa")
    assert plain.tolist() == network.generate(ids, max_new_tokens=12, do_sample=False).tolist()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"input_ids": torch.ones(2, 20, dtype=torch.long)}, "one prompt"),
        ({"input_ids": None}, "one prompt"),
        ({"attention_mask": torch.tensor([[0] * 3 + [1] * 57])}, "padded"),
        ({"budget": 4}, "above the 4 tokens that every head keeps, not 4"),
        ({"budget": 16.5}, "whole number"),
        ({"num_return_sequences": 2, "do_sample": True}, "one row"),
        ({"num_beams": 2}, "one row"),
        ({"prompt_lookup_num_tokens": 3}, "'prompt_lookup_num_tokens'"),
        ({"past_key_values": transformers.DynamicCache()}, "'past_key_values'"),
        ({"use_cache": False}, "use_cache=False"),
    ],
)
def test_what_the_program_cannot_do(network: Any, arguments: dict[str, Any], said: str) -> None:
    ids = torch.tensor([random_ids(60)])
    with pytest.raises(ValueError, match=said):
        exported.generate(network, **{"input_ids": ids, "budget": 12, "max_new_tokens": 4, **arguments})
    assert network.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("sliding_window", 32, "attend to the whole text"),
        ("layer_types", ["linear_attention", "full_attention", "full_attention"], "attend to the whole text"),
        ("rope_parameters", {"rope_type": "longrope"}, "longrope"),
        ("num_hidden_layers", 4, r"3 layers x 2 KV heads; this model has 4 x 2"),
    ],
)
def test_models_that_the_program_cannot_serve(
    network: Any, name: str, value: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network.config, name, value, raising=False)
    with pytest.raises(ValueError, match=said):
        exported.generate(network, torch.tensor([random_ids(60)]), budget=12)


def test_a_budget_without_a_table() -> None:
    rest: dict[str, Any] = {"estimator": "ssv", "samples": 1, "seed": 0, "utility": "loglik", "tasks": ()}
    file = HeadValues(np.arange(6.0).reshape(3, 2), np.ones((3, 2)), window=4, examples=(), model=TOY, **rest)
    with pytest.raises(ValueError, match="for the budgets 16, 24, not for 20"):
        exported.tokens_per_head(heads(file, (16, 24)), 20, 60)


# ---- The folder


def test_the_program_holds_the_numbers_of_the_file() -> None:
    told = heads(shares({**TOY, "id": "a 'b' \"c\" \\ {0}"}))
    space: dict[str, Any] = {"__name__": "loaded"}
    exec(compile(program(told), "generate.py", "exec"), space)
    assert space["HEADS"] == told
    assert exported.HEADS == {}


def test_the_folder_is_whole_and_says_what_it_serves(tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    shares(TOY).save(path)
    request = Request(load_head_file(path), path, (24,), out=tmp_path / "out")
    folder, (note,) = write(request).path, write(request).notes
    assert sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()) == [
        "README.md", "custom_generate/generate.py", "custom_generate/requirements.txt", "heads.json",
    ]  # fmt: skip
    assert "any budget above 4 tokens" in note
    assert "budget=24" in note
    readme = (folder / "README.md").read_text()
    assert readme.startswith("---\nlibrary_name: transformers\n")
    assert "{" not in readme
    assert json.loads((folder / "heads.json").read_text()) == heads(shares(TOY), (24,))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out", "toy.json"]


def test_budget_files_serve_their_budget_and_their_ranking() -> None:
    tokens = np.array([[10, 20], [30, 40], [8, 12]])
    rule = {"text": "by hand", "parameters": {"method": "cokv-search", "scorer": "fading:half=4:width=9", "kernel": 9}}
    told = heads(HeadBudgets(TOY, 20, 4, tokens, rule))
    assert told["default_budget"] == 20
    assert told["tokens"] == {"20": tokens.tolist()}
    ranking = {"window": 4, "sinks": 0, "observe": 32, "name": "fading", "half": 4.0, "phrase": 0.34, "width": 9}
    assert told["ranking"] == {**ranking, "narrowest": 3, "widest": 31}
    assert heads(HeadBudgets(TOY, 20, 4, tokens, {"text": "", "parameters": {}}))["ranking"]["name"] == "window"


@pytest.mark.parametrize(
    ("file", "budgets", "said"),
    [
        (shares(TOY, scorer="keydiff"), (), "ranks tokens by 'keydiff', .* it knows window and fading"),
        (shares({**TOY, "evicted_layers": [0, 2, 4]}), (), "only some layers are evicted"),
        (shares(TOY), (4,), "4 tokens leaves nothing beyond the observation window of 4"),
        (HeadBudgets(TOY, 20, 4, np.full((3, 2), 20), {"text": "", "parameters": {}}), (24,), "holds a budget of 20"),
    ],
)
def test_what_cannot_be_exported(file: HeadFile, budgets: tuple[int, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=said) as refused:
        write(Request(file, Path("toy.json"), budgets, out=tmp_path / "out"))
    assert len(str(refused.value)) <= LONGEST
    assert not list(tmp_path.iterdir())


def test_the_default_of_the_command_line_is_the_shipped_ranking() -> None:
    file = load_head_file(embedded.shares_path())
    told, method, made = heads(file), get_policy("cokv-search"), policy_of(file)
    assert (made.scorer, made.window, made.observe) == (method.scorer, method.window, method.observe)
    assert told["ranking"]["window"] == method.window
    assert "cokv_bench" not in "".join(
        line for line in program(told).splitlines() if line.startswith(("import", "from"))
    )
    assert sys.modules[exported.__name__] is exported
