"""The real embedded model on real rows and needles."""

import json
from pathlib import Path

import pytest
import torch

from cokv_bench.kvcache import Selection, decode, prefill
from cokv_bench.models import Model, encode_answer
from cokv_bench.policies import get_policy
from cokv_bench.tasks.longbench import LongBenchTask
from cokv_bench.tasks.prompts import encode_example
from cokv_bench.tasks.registry import TaskOptions, resolve

pytestmark = pytest.mark.model

TASKS = [
    "hotpotqa_e",
    "trec_e",
    "samsum_e",
    "lcc_e",
    "qasper",
    "2wikimqa_e",
    "multi_news_e",
    "triviaqa_e",
    "qmsum",
    "lcc",
]


@pytest.mark.parametrize("name", TASKS)
def test_full_is_plain_generate_on_a_real_row(embedded: Model, shared: Path, name: str) -> None:
    example = LongBenchTask(name, data_dir=shared / "longbench", limit=1).examples("test")[0]
    ids = encode_example(embedded, example, max_length=500)
    prompt = prefill(embedded, ids, accumulated_attention=False)
    full = Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)
    plain = embedded.network.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :].tolist()
    for storage in ("shared", "ragged"):
        assert decode(embedded, prompt, [full], max_new_tokens=12, storage=storage)[0].token_ids == plain


def test_storages_agree_and_hold_what_they_say(embedded: Model) -> None:
    (task,) = resolve(["needle"], embedded, TaskOptions(lengths=(512,), examples=1))
    example = task.examples("test")[0]
    prompt = prefill(embedded, encode_example(embedded, example))
    names = ("streaming-llm", "h2o", "snapkv", "pyramidkv", "ada-snapkv", "ada-pyramid", "headkv", "cokv", "random")
    choices = [get_policy(name).select(prompt, budget) for name in names for budget in (32, 128)]
    assert {choice.total for choice in choices} == {32 * 90, 128 * 90}
    answer = encode_answer(embedded, example.prompt, example.answers[0], chat=True)
    shared = decode(embedded, prompt, choices, teacher=answer)
    ragged = decode(embedded, prompt, choices, teacher=answer, storage="ragged")
    for a, b in zip(shared, ragged, strict=True):
        torch.testing.assert_close(a.logprobs, b.logprobs, atol=1e-3, rtol=1e-3)
    shared = decode(embedded, prompt, choices, max_new_tokens=8)
    ragged = decode(embedded, prompt, choices, max_new_tokens=8, storage="ragged")
    assert [row.token_ids for row in shared] == [row.token_ids for row in ragged]


def test_the_chat_prompt_has_one_opening_and_no_doubled_specials(embedded: Model) -> None:
    (task,) = resolve(["needle"], embedded, TaskOptions(lengths=(512,), examples=1))
    text = embedded.text_tokenizer.decode(encode_example(embedded, task.examples("test")[0]))
    assert text.count("<|im_start|>user") == 1
    assert text.endswith("<|im_start|>assistant\n")


def test_the_shipped_files_are_of_this_model(embedded: Model) -> None:
    from cokv_bench.budgets import HeadScores, HeadValues
    from cokv_bench.budgets.embedded import scores_path, values_path
    from cokv_bench.budgets.fingerprint import check_same_model

    check_same_model(HeadValues.load(values_path()).model, embedded.fingerprint, "The shipped profile")
    check_same_model(HeadScores.load(scores_path()).model, embedded.fingerprint, "The shipped head scores")
    assert json.loads(values_path().read_text())["examples"]
