"""The custom model file of LightEval: with the full cache what its transformers model gives.

LightEval pins releases of packages that this project has newer, so an environment of its own runs this.
"""

from pathlib import Path
from typing import Any

import pytest

from cokv_bench.errors import RequestError

pytest.importorskip("lighteval", reason="LightEval is not installed")

from lighteval.models.custom.custom_model import CustomModelConfig
from lighteval.models.model_loader import load_model
from lighteval.models.transformers.transformers_model import TransformersModel, TransformersModelConfig
from lighteval.tasks.requests import Doc

from cokv_bench import harness

FILE = Path(harness.__file__).with_name("lighteval_model.py")
TEXT = "The tide comes in twice a day, and the boats wait. "


def doc(query: str, **changes: Any) -> Doc:
    settings: dict[str, Any] = {"choices": [" one", " two words", "!"], "gold_index": 0, "generation_size": 12}
    return Doc(query=query, **{**settings, "stop_sequences": ["\n"], "task_name": "tides", "id": query, **changes})


@pytest.fixture
def custom(texty_folder: Path, tmp_path: Path) -> Any:
    """The model as LightEval loads it, from further arguments."""

    def make(arguments: str) -> Any:
        name = f"pretrained={texty_folder},device=cpu,{arguments}"
        return load_model(
            CustomModelConfig(model_name=name, model_definition_file_path=str(FILE), cache_dir=str(tmp_path))
        )

    return make


def test_full_is_its_transformers_model_and_snapkv_is_not(custom: Any, texty_folder: Path, tmp_path: Path) -> None:
    settings = {"dtype": "float32", "device": "cpu", "batch_size": 1, "max_length": 2048, "cache_dir": str(tmp_path)}
    plain = TransformersModel(TransformersModelConfig(model_name=str(texty_folder), **settings))
    full, few = custom("method=full"), custom("method=snapkv,budget=16,question_tokens=4")
    docs = [doc(TEXT * 20 + question) for question in ("Where?", "When does it?")]
    for kind in ("loglikelihood", "greedy_until"):
        found = [getattr(model, kind)(docs) for model in (plain, full, few)]
        for expected, same, other in zip(*found, strict=True):
            assert list(expected.input_tokens) == list(same.input_tokens)
            assert expected.text == same.text
            assert [*map(float, expected.logprobs)] == pytest.approx(same.logprobs, abs=2e-3)
            assert [*map(bool, expected.argmax_logits_eq_gold)] == same.argmax_logits_eq_gold
            assert (other.text, other.logprobs) != (same.text, same.logprobs)


def test_what_is_too_long_is_cut_from_the_left(custom: Any) -> None:
    full, long = custom("method=full"), doc(TEXT * 50)
    (answer,), (choices,) = full.greedy_until([long]), full.loglikelihood([long])
    assert (len(answer.input_tokens), len(answer.output_tokens[0])) == (2047, 1)
    assert len(choices.input_tokens) == 2048 - len(" two words")
    whole = full.tok_encode(full._prompts.prepare_prompt(long))
    assert whole[-2047:] == answer.input_tokens
    assert answer.truncated_tokens_count == len(whole) - 2047


def test_what_no_method_can_answer_is_refused(custom: Any) -> None:
    full = custom("method=full")
    with pytest.raises(RequestError, match="whole texts"):
        full.loglikelihood_rolling([doc(TEXT)])
    with pytest.raises(RequestError, match="draws 4 answers"):
        full.greedy_until([doc(TEXT, num_samples=4)])
