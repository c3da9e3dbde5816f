"""Answers and scores from what a method keeps of a context, and the arguments that name model and method."""

from pathlib import Path
from typing import Any

import pytest

from cokv_bench import decode, generate, get_policy, prefill
from cokv_bench.budget import PromptShare
from cokv_bench.budgets.embedded import shares_path
from cokv_bench.errors import RequestError
from cokv_bench.harness import evicted
from cokv_bench.harness.arguments import EvictionArguments
from cokv_bench.harness.evicted import EvictedModel
from cokv_bench.models import Model
from tests.conftest import random_ids

TOKENS = 70
TEXTS = [random_ids(length, seed=length) for length in (1, 4, 1)]


@pytest.mark.parametrize("name", ["full", "snapkv", "ada-snapkv", "laq", "h2o"])
def test_an_answer_is_that_of_generate(tiny_llama: Model, name: str) -> None:
    ids, budget = random_ids(TOKENS), None if name == "full" else 16
    found = EvictedModel(tiny_llama, get_policy(name), budget).answer(ids, 12)
    assert found == generate(tiny_llama, ids, name, budget, max_new_tokens=12).token_ids


@pytest.mark.parametrize(("question_tokens", "read"), [(0, 1), (1, 1), (7, 7)])
def test_texts_are_scored_from_what_is_kept(tiny_llama: Model, question_tokens: int, read: int) -> None:
    ids, policy = random_ids(TOKENS), get_policy("snapkv")
    found = EvictedModel(tiny_llama, policy, 12, question_tokens).score(ids, TEXTS)
    prompt = prefill(tiny_llama, ids[:-read])
    rows = [
        decode(tiny_llama, prompt, [policy.select(prompt, 12)], question=ids[-read:], teacher=each) for each in TEXTS
    ]
    assert [each.logprob for each in found] == pytest.approx([float(row[0].logprobs.sum()) for row in rows], abs=1e-4)
    # Those of one token too.
    whole = EvictedModel(tiny_llama, get_policy("full"), None, question_tokens).score(ids, TEXTS)
    assert all(abs(a.logprob - b.logprob) > 1e-3 for a, b in zip(found, whole, strict=True))


def test_a_question_is_read_after_eviction(tiny_llama: Model) -> None:
    ids, policy = random_ids(TOKENS), get_policy("snapkv")
    prompt = prefill(tiny_llama, ids[:-9])
    (row,) = decode(tiny_llama, prompt, [policy.select(prompt, 12)], question=ids[-9:], max_new_tokens=12)
    assert EvictedModel(tiny_llama, policy, 12, 9).answer(ids, 12) == row.token_ids
    assert EvictedModel(tiny_llama, policy, 12).answer(ids, 12) != row.token_ids


def test_a_context_is_prefilled_once(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(model: Model, ids: list[int], **options: Any) -> Any:
        read.append(len(ids))
        return prefill(model, ids, **options)

    monkeypatch.setattr(evicted, "prefill", counted)
    EvictedModel(tiny_llama, get_policy("snapkv"), 12).score(random_ids(TOKENS), TEXTS * 5)
    assert read == [TOKENS - 1]


@pytest.mark.parametrize("tokens", [1, 2, 7, 12, 13])
def test_of_a_short_context_nothing_is_evicted(tiny_llama: Model, tokens: int) -> None:
    ids = random_ids(tokens)
    few, all_ = (EvictedModel(tiny_llama, get_policy(*each), 12, 3) for each in (["snapkv"], ["full"]))
    assert [each.logprob for each in few.score(ids, TEXTS)] == [each.logprob for each in all_.score(ids, TEXTS)]
    assert few.answer(ids, 8) == all_.answer(ids, 8)


def test_arguments_name_model_method_and_budget(texty_folder: Path) -> None:
    given = {"pretrained": str(texty_folder), "method": "window:kernel=3+adaptive", "budget": "25%", "device": "cpu"}
    found = EvictionArguments.of({**given, "question_tokens": 4}).load()
    assert found.policy.name == "window:kernel=3+adaptive"
    assert (found.budget, found.question_tokens) == (PromptShare.parse("25%"), 4)
    assert found.model.name == str(texty_folder)
    assert EvictionArguments.of({**given, "method": "full"}).load().budget is None


def test_arguments_are_read_from_a_text() -> None:
    text = "pretrained=owner/name,method=snapkv:kernel=3,budget=25%,question_tokens=4,trust_remote_code=True"
    expected = {"pretrained": "owner/name", "method": "snapkv:kernel=3", "budget": "25%"}
    assert EvictionArguments.parse(text) == EvictionArguments(**expected, question_tokens=4, trust_remote_code=True)
    # A text is true as soon as it says anything, "false" too; it must not let remote code run.
    for said in ("false", "False", "FALSE"):
        assert EvictionArguments.parse(f"trust_remote_code={said}").trust_remote_code is False
    for said in ("no", "0", "yes"):
        with pytest.raises(RequestError, match="expected true or false"):
            EvictionArguments.parse(f"trust_remote_code={said}")
    with pytest.raises(RequestError, match="did you mean budget"):
        EvictionArguments.parse("budgets=64")


def test_without_arguments_the_method_is_that_of_generate() -> None:
    found = EvictionArguments.of({})
    assert (found.pretrained, found.method, found.budget) == ("smollm2-135m", "snapkv", 128)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"budgets": 32}, "did you mean budget"),
        ({"method": "snapvk"}, "did you mean snapkv"),
        ({"method": 3}, "'method' is 3"),
        ({"method": "snapkv:width=3"}, "width"),
        ({"budget": "many"}, "whole numbers"),
        ({"budget": 8}, "observation window"),
        ({"budget": "64,128"}, "name one"),
        ({"question_tokens": -1}, "question_tokens"),
        ({"question_tokens": "1%"}, "question_tokens"),
        ({"heads": "nowhere.json", "method": "cokv"}, "nowhere.json"),
        ({"heads": str(shares_path())}, "No method of this run reads"),
        ({"heads": str(shares_path()), "method": "cokv-search"}, "of another shape"),
        ({"pretrained": "./nowhere"}, "no model folder"),
        ({"dtype": "int8"}, "not a dtype"),
        ({"device": True}, "'device' is True"),
    ],
)
def test_bad_arguments_are_refused(texty_folder: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        EvictionArguments.of({"pretrained": str(texty_folder), "device": "cpu", "budget": 32, **change}).load()
