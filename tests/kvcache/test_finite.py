"""A forward pass that breaks down is refused wherever tokens are chosen or scored, and never read as token 0."""

from pathlib import Path

import pytest
import torch
import transformers

from cokv_bench import decode, get_policy, load_model, prefill
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import Selection, compress
from cokv_bench.models import Model
from tests.conftest import random_ids, save_tiny

TOKENS = 40
WIDER = "are not finite.*try a wider dtype, such as float32"


@pytest.fixture(scope="module")
def overflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finite in float32 and bfloat16; the MLP of the last layer exceeds float16."""
    path = save_tiny("llama", tmp_path_factory.mktemp("overflow"))
    network = transformers.AutoModelForCausalLM.from_pretrained(path)
    with torch.no_grad():
        network.model.layers[2].mlp.up_proj.weight.mul_(400)
        network.model.layers[2].mlp.gate_proj.weight.mul_(400)
    network.save_pretrained(path)
    return path


def test_a_prompt_that_breaks_down_is_refused_with_model_dtype_and_layer(overflow: Path) -> None:
    half, ids = load_model(str(overflow), device="cpu", dtype="float16"), random_ids(TOKENS)
    for read in (lambda: prefill(half, ids), lambda: compress(half, ids, get_policy("streaming-llm"), 16)):
        with pytest.raises(RequestError, match=f"Logits of '.*' in float16.*from layer 2 on.*{WIDER[20:]}") as caught:
            read()
        assert len(str(caught.value)) <= 400 + len(str(overflow))
    wide = load_model(str(overflow), device="cpu", dtype="bfloat16")
    assert prefill(wide, ids).logits.isfinite().all()


@pytest.mark.parametrize("storage", ["shared", "ragged"])
@pytest.mark.parametrize("token", [9, 25])
def test_an_answer_that_breaks_down_is_refused(tmp_path: Path, storage: str, token: int) -> None:
    """The prompt is sound; a token of the answer or of the question has an embedding of NaN."""
    model = load_model(str(save_tiny("qwen2", tmp_path)), device="cpu")
    ids = [each for each in random_ids(TOKENS) if each != token]
    prompt = prefill(model, ids)
    choices = [Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens), get_policy("snapkv").select(prompt, 12)]
    first = int(prompt.logits.argmax())
    options = {"storage": storage, "max_new_tokens": 4}
    with torch.no_grad():
        model.network.get_input_embeddings().weight[[token, first]] = float("nan")
    with pytest.raises(RequestError, match=WIDER):
        decode(model, prompt, choices, **options)
    with pytest.raises(RequestError, match=WIDER):
        decode(model, prompt, choices, question=[token, 7], **options)
    with pytest.raises(RequestError, match=WIDER):
        decode(model, prompt, choices, teacher=[11, token, 12], **options)
    # The last token is never fed back.
    assert decode(model, prompt, choices, teacher=[11, token], **options)[0].logprobs is not None


def test_an_infinite_logit_is_refused(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = prefill(tiny_llama, random_ids(TOKENS))
    logits = type(tiny_llama).logits

    def broken(self: Model, hidden: torch.Tensor) -> torch.Tensor:
        found = logits(self, hidden)
        found[..., 17] = float("inf")
        return found

    monkeypatch.setattr(type(tiny_llama), "logits", broken)
    choice = Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)
    with pytest.raises(RequestError, match=WIDER):
        decode(tiny_llama, prompt, [choice])
    with pytest.raises(RequestError, match=WIDER):
        decode(tiny_llama, prompt, [choice], teacher=[5, 6, 7])
    with pytest.raises(RequestError, match=WIDER):
        prefill(tiny_llama, random_ids(TOKENS))
