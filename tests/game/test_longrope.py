"""Prompts whose answers cross the window of a longrope model, in games, searches and evaluations."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from cokv_bench.game.head_game import make_game
from cokv_bench.models import Model, encode_answer, load_model
from cokv_bench.policies import get_policy
from cokv_bench.runs.evaluate import Evaluation
from cokv_bench.runs.plan import Part, Variant
from cokv_bench.search import SearchExamples
from cokv_bench.tasks import Example
from cokv_bench.tasks.prompts import Encoded, encode_example
from cokv_bench.tasks.registry import TaskOptions, resolve
from tests.conftest import save_tiny

BOUNDARY = 300


@pytest.fixture(scope="module")
def longrope(texty_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A Phi-3 that reads text, a token a byte; needle prompts of 300 tokens end just below its window."""
    factors = {"short_factor": [1.0] * 4, "long_factor": [1.0, 4.0, 7.0, 10.0]}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": BOUNDARY, **factors}
    folder = save_tiny(
        "phi3",
        tmp_path_factory.mktemp("longrope"),
        vocab_size=260,
        max_position_embeddings=2048,
        original_max_position_embeddings=BOUNDARY,
        rope_parameters=rope,
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (texty_folder / name).is_file():
            shutil.copy(texty_folder / name, folder)
    return load_model(str(folder), device="cpu")


def fresh(model: Model) -> transformers.PreTrainedModel:
    return transformers.AutoModelForCausalLM.from_pretrained(model.name, dtype=torch.float32).eval()


def scored(model: Model, example: Example) -> tuple[float, bool]:
    """Mean log-probability of the answer but its first token, by one forward pass, and whether the text crosses."""
    ids = encode_example(model, example)
    answer = encode_answer(model, example.prompt, example.answers[0], chat=example.chat)
    with torch.no_grad():
        logits = fresh(model)(torch.tensor([ids + answer])).logits[0].log_softmax(-1)
    places = torch.arange(len(ids) - 1, len(ids) + len(answer) - 1)
    return float(logits[places, answer][1:].mean()), len(ids) <= BOUNDARY < len(ids) + len(answer)


def test_a_game_and_a_search_score_the_whole_text(longrope: Model) -> None:
    tasks = resolve(["needle"], longrope, TaskOptions(lengths=(298, 302, 306), examples=3))
    game = make_game(longrope, tasks, "loglik", window=8)
    expected, crossing = zip(*(scored(longrope, example) for _, example in game.rows), strict=True)
    assert any(crossing)
    everybody = np.ones((1, game.players), dtype=bool)
    assert game.measure(game.coalitions(everybody))[0] == pytest.approx(expected, abs=1e-3)
    examples = SearchExamples(longrope, tasks, ["loglik"], window=8)
    assert [examples.full(case) for case in range(len(expected))] == pytest.approx(expected, abs=1e-3)


def test_an_evaluation_answers_as_generate_does(longrope: Model) -> None:
    (task,) = resolve(["needle"], longrope, TaskOptions(lengths=(BOUNDARY,), examples=2))
    for example in task.examples("test"):
        ids = encode_example(longrope, example)
        variants = (Variant("full", None, get_policy("full")), Variant("snapkv", 24, get_policy("snapkv")))
        answers = Evaluation(Encoded(ids, []), (Part("needle", example, variants),), 8)(longrope)
        start = torch.tensor([ids])
        made = fresh(longrope).generate(
            start, attention_mask=torch.ones_like(start), max_new_tokens=example.max_new_tokens, do_sample=False
        )
        assert len(ids) <= BOUNDARY < made.shape[1]
        assert answers[0].texts[0] == longrope.text(made[0, len(ids) :].tolist())
