"""HeadKV's scores against transformers' own attention weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.game.head_scores import measure_head_scores
from cokv_bench.game.retrieval_scores import answer_places, example_scores, retrieval_scores
from cokv_bench.models import Model, load_model
from cokv_bench.tasks import Example, Split
from cokv_bench.tasks.prompts import encode_example
from tests.conftest import random_ids
from tests.models.written import save, sentencepiece


def test_scores_are_attention_among_the_most_attended_positions(tiny: Model) -> None:
    ids, answer, places = random_ids(40), random_ids(5, seed=2), [7, 8, 9, 30]
    ours = example_scores(tiny, ids, answer, places)
    tiny.network.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            weights = tiny.network(torch.tensor([ids + answer[:-1]]), output_attentions=True).attentions
    finally:
        tiny.network.set_attn_implementation("cokv_bench")
    expected = np.zeros((tiny.layers, tiny.heads))
    for layer in range(tiny.layers):
        for head in range(tiny.heads):
            for step in range(len(answer)):
                row = weights[layer][0, head, len(ids) - 1 + step].double().numpy()
                top = np.argsort(-row, kind="stable")[: len(places)]
                expected[layer, head] += sum(row[place] for place in places if place in top) / len(answer)
    np.testing.assert_allclose(ours, expected, atol=2e-3)
    assert ours.max() > 0


class Facts:
    name, metric, version = "facts", "found", 1

    def __init__(self, prompts: list[str]) -> None:
        self.prompts = prompts

    def examples(self, split: Split) -> list[Example]:
        return [Example(str(i), self.name, p, ("blue whale",), 4) for i, p in enumerate(self.prompts)]

    def score(self, example: Example, prediction: str) -> dict[str, float]:
        return {"score": 0.0}


def test_places_are_the_tokens_of_the_answer(texty: Model) -> None:
    (example,) = Facts(["It is the blue whale, not another."]).examples("profile")
    ids = encode_example(texty, example)
    places = answer_places(texty, ids, example)
    assert texty.text([ids[place] for place in places]) == "blue whale"


def test_examples_without_their_answer_are_left_out(texty: Model) -> None:
    scores = retrieval_scores(texty, Facts(["no such thing", "the blue whale sang"]))
    assert scores.examples == ("1",)
    assert scores.scores.shape == (texty.layers, texty.heads)
    with pytest.raises(RequestError, match="holds its answer"):
        retrieval_scores(texty, Facts(["nothing here"]))


def test_places_with_a_tokenizer_that_drops_the_space_of_a_lone_token(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "llama", sentencepiece()))
    told = {"the old blue house is old": "old blue house", "what is blue": "blue", "blue it is": "blue"}
    for prompt, answer in told.items():
        example = Example("0", "facts", prompt, (answer,), 4)
        ids = encode_example(model, example)
        places = answer_places(model, ids, example)
        assert places == list(range(places[0], places[-1] + 1))
        assert model.text([ids[place] for place in places]).strip() == answer


def test_beta_is_chosen_on_the_examples_that_the_file_names(texty: Model) -> None:
    told = ["the blue whale sang " * 30, "no such thing " * 30, "a blue whale " * 30]
    every, some = (measure_head_scores(texty, Facts(prompts), window=8) for prompts in (told, [told[0], told[2]]))
    assert len(every.examples) == 2
    assert every.betas == some.betas != {}
