"""HeadKV's scores against transformers' own attention weights."""

import numpy as np
import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.game.retrieval_scores import answer_places, example_scores, retrieval_scores
from cokv_bench.models import Model
from cokv_bench.tasks import Example, Split
from cokv_bench.tasks.prompts import encode_example
from tests.conftest import random_ids


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
