"""Prompts in memory and in a file: the same answers, prefilled once, and nothing left behind."""

from pathlib import Path

import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.kvcache import Prompt, Selection, decode, prefill
from cokv_bench.kvcache.store import PromptStore
from cokv_bench.models import Model
from tests.conftest import random_ids


def store_of(model: Model, limit: int, folder: Path, made: list[int] | None = None) -> PromptStore:
    def make(number: int) -> Prompt:
        if made is not None:
            made.append(number)
        return prefill(model, random_ids(60, seed=number), window=8)

    return PromptStore(make, limit=limit, folder=folder)


def test_prompts_beyond_the_limit_go_to_a_file_and_say_the_same(tiny: Model, tmp_path: Path) -> None:
    one = prefill(tiny, random_ids(60), window=8)
    made: list[int] = []
    store = store_of(tiny, limit=one.nbytes * 3 // 2, folder=tmp_path / "deep" / "er", made=made)
    memory = store_of(tiny, limit=one.nbytes * 10, folder=tmp_path)
    for number in (0, 1, 2, 1, 0, 2):
        there, here = store.get(number), memory.get(number)
        for name in ("keys", "values"):
            for a, b in zip(getattr(there, name), getattr(here, name), strict=True):
                assert torch.equal(a, b)
        full = Selection.full(there.layers, there.kv_heads, there.tokens)
        answers = [decode(tiny, prompt, [full], max_new_tokens=6)[0].token_ids for prompt in (there, here)]
        assert answers[0] == answers[1]
    assert made == [0, 1, 2]
    assert (store.spilled, memory.spilled) == (2, 0)


def test_the_file_has_no_name(tiny_llama: Model, tmp_path: Path) -> None:
    store = store_of(tiny_llama, limit=0, folder=tmp_path)
    prompt = store.get(0)
    assert list(tmp_path.iterdir()) == []
    assert prompt is store.get(0)
    prompt.memo["x"] = 1
    assert store.get(0).memo == {"x": 1}


def test_a_full_disk_is_said_before_anything_is_written(
    tiny_llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(RequestError, match=r"no room for a prompt of .* MiB \(No space left"):
        store_of(tiny_llama, limit=0, folder=tmp_path).get(0)


def test_a_prompt_for_another_device_is_copied_there_one_at_a_time(tiny_llama: Model, tmp_path: Path) -> None:
    # The meta device stands in for a GPU: placing a prompt there needs none.
    store = store_of(tiny_llama, limit=0, folder=tmp_path)
    for number in (0, 1):
        store.get(number)
        store._spilled[number].devices[:] = [torch.device("meta")] * tiny_llama.layers
    near = store.get(1)
    assert {keys.device.type for keys in near.keys} == {"meta"}
    assert store.get(1) is near
    assert store.get(0) is not near
    assert store.get(1) is not near
