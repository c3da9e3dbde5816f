"""Greedy is the most likely token each time, whatever a checkpoint's generation config asks for."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from cokv_bench import decode, get_policy, load_model, prefill
from cokv_bench.kvcache import compress
from tests.conftest import random_ids, save_tiny

TOKENS, NEW = 60, 12
# Each would forbid one of the first most likely tokens, or make it less likely, or look further than one token.
CHANGES: dict[str, Any] = {
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 1,
    "suppress_tokens": "first",
    "begin_suppress_tokens": "first",
    "bad_words_ids": "words",
    "sequence_bias": "bias",
    "min_new_tokens": NEW,
    "num_beams": 4,
}


def configure(folder: Path, **settings: Any) -> None:
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def by_argmax(folder: Path, ids: list[int], stops: set[int]) -> list[int]:
    """The most likely token of a plain forward pass over the text so far, until a stop token."""
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found: list[int] = []
    while len(found) < NEW and not stops & set(found[-1:]):
        with torch.no_grad():
            found.append(int(network(torch.tensor([ids + found])).logits[0, -1].argmax()))
    return found


@pytest.mark.parametrize("setting", CHANGES)
@pytest.mark.parametrize("several", [False, True])
def test_settings_that_change_greedy_are_left_out_and_named(tmp_path: Path, setting: str, several: bool) -> None:
    folder, ids = save_tiny("qwen2", tmp_path), random_ids(TOKENS)
    free = by_argmax(folder, ids, set())
    stops: Any = [2, free[5]] if several else free[5]
    forbidden = {"first": [free[0]], "words": [[free[1]]], "bias": [[[free[2]], -50.0]]}
    value = forbidden.get(CHANGES[setting], CHANGES[setting])
    configure(folder, eos_token_id=stops, **{setting: value})
    expected = by_argmax(folder, ids, {2, free[5]} if several else {free[5]})
    model = load_model(str(folder), device="cpu")
    assert list(model.ignored_generation_settings) == [setting]
    assert model.network.generation_config.eos_token_id == stops
    prompt = prefill(model, ids)
    answer = decode(model, prompt, [get_policy("full").select(prompt, None)], max_new_tokens=NEW)[0].token_ids
    assert answer == expected
    found = compress(model, ids, get_policy("full"), None)
    start = torch.tensor([[*ids, int(found.logits.argmax())]])
    made = model.network.generate(
        start,
        attention_mask=torch.ones_like(start),
        past_key_values=found.cache,
        max_new_tokens=NEW - 1,
        do_sample=False,
    )
    assert made[0, TOKENS:].tolist() == expected


def test_sampling_and_settings_that_are_off_are_not_named(tmp_path: Path) -> None:
    folder = save_tiny("llama", tmp_path)
    configure(
        folder,
        do_sample=True,
        temperature=0.6,
        top_p=0.9,
        top_k=20,
        repetition_penalty=1.0,
        num_beams=1,
        no_repeat_ngram_size=0,
        suppress_tokens=[],
        max_new_tokens=2048,
        bos_token_id=[1],
    )
    model = load_model(str(folder), device="cpu")
    assert model.ignored_generation_settings == {}
    settings = model.network.generation_config
    assert (settings.eos_token_id, settings.bos_token_id, settings.pad_token_id) == (2, [1], 0)
    assert not settings.do_sample
