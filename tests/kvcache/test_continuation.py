"""Going on from a compressed prompt gives what `decode` gives, and reads later turns as plain transformers does."""

import importlib
from pathlib import Path

import pytest
import torch

from cokv_bench import generate
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import RaggedCache, compress, decode, prefill
from cokv_bench.kvcache.continuation import Continuation
from cokv_bench.kvcache.graph import GraphStep
from cokv_bench.models import Model, load_model
from cokv_bench.policies import get_policy
from tests.conftest import random_ids, save_tiny
from tests.kvcache.test_graph import captures  # noqa: F401 - a fixture
from tests.kvcache.test_rotary import SCALINGS, WINDOW

TOKENS = 90


@pytest.mark.parametrize("method", ["full", "snapkv", "ada-snapkv", "lava:window=8"])
def test_an_answer_is_that_of_decode(tiny: Model, method: str) -> None:
    ids = random_ids(TOKENS, seed=3)
    prompt = prefill(tiny, ids, window=8)
    expected = decode(tiny, prompt, [get_policy(method).select(prompt, 20)], max_new_tokens=25)[0]
    assert generate(tiny, ids, method, 20, max_new_tokens=25) == expected


def plain(model: Model, ids: list[int], new: int) -> list[int]:
    """What transformers goes on with."""
    whole = torch.tensor([ids])
    made = model.network.generate(whole, attention_mask=torch.ones_like(whole), max_new_tokens=new, do_sample=False)
    return made[0, len(ids) :].tolist()


def test_turns_are_read_once_and_together(tiny_llama: Model) -> None:
    ids, asked, told = random_ids(TOKENS), random_ids(7, seed=1), random_ids(5, seed=2)
    text = Continuation(tiny_llama, ids, compress(tiny_llama, ids, get_policy("full"), None))
    text.read(asked)
    text.read(told)
    before = [*ids, *asked, *told]
    first = text.write(9).token_ids
    assert first == plain(tiny_llama, before, 9)
    assert first[-1] in tiny_llama.stop_ids
    assert text.token_ids == [*before, *first[:-1]]
    text.read(told)
    before = [*before, *first[:-1], *told]
    assert text.write(9).token_ids == plain(tiny_llama, before, 9)


def test_steps_are_replayed_where_they_can_be(tiny_llama: Model, captures: list[object]) -> None:  # noqa: F811
    ids = random_ids(TOKENS, seed=5)
    prompt = prefill(tiny_llama, ids, window=8)
    expected = decode(tiny_llama, prompt, [get_policy("snapkv").select(prompt, 20)], max_new_tokens=25)[0]
    assert generate(tiny_llama, ids, "snapkv", 20, max_new_tokens=25) == expected
    assert captures


def test_an_answer_ends_at_a_stop_which_is_not_read(tiny_llama: Model) -> None:
    ids = random_ids(TOKENS, seed=6)
    model = Model(tiny_llama.name, tiny_llama.network, tiny_llama.tokenizer, verdict=tiny_llama.verdict)
    model.__dict__["stop_ids"] = frozenset()
    made = generate(model, ids, "snapkv", 20, max_new_tokens=12).token_ids
    model.__dict__["stop_ids"] = frozenset([made[4]])
    text = Continuation(model, ids, compress(model, ids, get_policy("snapkv"), 20))
    assert text.write(12).token_ids == made[:5]
    assert text.token_ids == [*ids, *made[:4]]
    # The same text again, of which the stop may not come first.
    model.__dict__["stop_ids"] = frozenset([made[0]])
    text = Continuation(model, ids, compress(model, ids, get_policy("snapkv"), 20))
    assert text.write(3).token_ids == made[:1]
    assert text.write(3, something=True).token_ids[0] != made[0]


def test_a_text_becomes_a_turn_of_the_users(texty: Model) -> None:
    said = "The kite was made of silk. " * 9
    ids = texty.template.render(said) if texty.template else said
    tokens = texty.text_tokenizer(ids, add_special_tokens=False).input_ids
    assert generate(texty, said, budget=40, max_new_tokens=6) == generate(texty, tokens, budget=40, max_new_tokens=6)


def test_what_does_not_fit_is_told(tiny_llama: Model) -> None:
    ids = random_ids(TOKENS)
    found = compress(tiny_llama, ids, get_policy("snapkv"), 20, rows=2)
    with pytest.raises(RequestError, match="2 rows; give the ids"):
        Continuation(tiny_llama, ids, found)
    with pytest.raises(RequestError, match="A text of 89 tokens"):
        Continuation(tiny_llama, ids[1:], compress(tiny_llama, ids, get_policy("snapkv"), 20))
    once = compress(tiny_llama, ids, get_policy("snapkv"), 20)
    Continuation(tiny_llama, ids, once).write(4)
    with pytest.raises(RequestError, match="3 tokens of another continuation; compress the prompt again"):
        Continuation(tiny_llama, ids, once)
    with pytest.raises(RequestError, match="exceed the context"):
        generate(tiny_llama, ids, max_new_tokens=500)
    with pytest.raises(RequestError, match="1 or more, not 0"):
        generate(tiny_llama, ids, max_new_tokens=0)


@pytest.mark.parametrize("replays", [False, True])
def test_no_step_crosses_the_window_of_longrope(
    replays: bool,
    tmp_path: Path,
    captures: list[object],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, changes = SCALINGS["longrope"]
    model = load_model(str(save_tiny(kind, tmp_path, **changes)), device="cpu")
    model.__dict__["stop_ids"] = frozenset()
    if replays:
        # A replay on a GPU runs nothing of this.
        monkeypatch.delattr(RaggedCache, "update")
    else:
        monkeypatch.setattr(GraphStep, "serves", staticmethod(lambda model, cache: False))
    ids = random_ids(WINDOW - 20)
    # The last token is not read.
    assert len(generate(model, ids, "snapkv", 20, max_new_tokens=21).token_ids) == 21
    assert bool(captures) == replays
    with pytest.raises(RequestError, match="longrope"):
        generate(model, ids, "snapkv", 20, max_new_tokens=22)


def test_turns_of_other_models_are_refused(tiny_llama: Model) -> None:
    ids = random_ids(TOKENS)
    text = Continuation(tiny_llama, ids, compress(tiny_llama, ids, get_policy("snapkv"), 20))
    with pytest.raises(RequestError, match="ids must be from 0 to"):
        text.read([3, 9999])
    assert text.token_ids == ids
    for asked, said in (({"reserve": -5}, "not -5"), ({}, "such as get_policy")):
        with pytest.raises(RequestError, match=said):
            compress(tiny_llama, ids, get_policy("snapkv") if asked else "snapkv", 20, **asked)  # type: ignore[arg-type]


def test_two_continuations_of_one_cache_do_not_mix(tiny_llama: Model) -> None:
    ids = random_ids(TOKENS)
    found = compress(tiny_llama, ids, get_policy("full"), None)
    one, two = Continuation(tiny_llama, ids, found), Continuation(tiny_llama, ids, found)
    said = one.write(4)
    with pytest.raises(RequestError, match="3 tokens of another continuation; compress the prompt again"):
        two.write(4)
    assert one.token_ids == [*ids, *said.token_ids]
    assert len(one.write(4).token_ids) == 4


def test_generate_refuses_before_it_reads(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        importlib.import_module("cokv_bench.policies.generating"), "compress", lambda *of, **how: pytest.fail("read")
    )
    for new, words in ((0, "1 or more, not 0"), (2.5, "not 2.5"), (None, "1 or more"), (500, "exceed the context")):
        with pytest.raises(RequestError, match=words):
            generate(tiny_llama, random_ids(TOKENS), max_new_tokens=new)  # type: ignore[arg-type]
