"""Plain text to be continued: lengths, splits, references and bad requests."""

from pathlib import Path

import pytest

from cokv_bench.errors import RequestError
from cokv_bench.models import Model, encode
from cokv_bench.runs.execute import execute
from cokv_bench.runs.journal import read_records
from cokv_bench.runs.request import plan_request
from cokv_bench.tasks.registry import TaskOptions, resolve
from cokv_bench.tasks.text import TextTask
from cokv_bench.tasks.text.task import MAX_NEW_TOKENS
from tests.requests import request_of


def task(model: Model, **options: object) -> TextTask:
    (found,) = resolve(["text"], model, TaskOptions(**options))  # type: ignore[arg-type]
    assert isinstance(found, TextTask)
    return found


def test_prompts_are_whole_sentences_and_a_passage_of_the_length_at_most(texty: Model) -> None:
    for example in task(texty, lengths=(500, 900), examples=5).examples("all"):
        length = example.fields["length"]
        # A sentence of the packaged essays has fewer than 400 bytes, which are this model's tokens.
        assert length - 450 < len(encode(texty, example.prompt, chat=False)) <= length
        text, cue = example.prompt.rsplit("\n\n", 1)
        assert text.rstrip("\"')”’")[-1] in ".!?:;"
        assert 1 <= len(cue.split()) <= 6
        assert not example.chat


def test_the_reference_is_how_the_passage_went_on(texty: Model, tmp_path: Path) -> None:
    text = " ".join(f"Sentence {number} says as little as the others do." for number in range(200))
    (tmp_path / "one.txt").write_text(text)
    for example in task(texty, haystack=tmp_path, lengths=(700,), examples=6).examples("test"):
        (reference,) = example.answers
        before, cue = example.prompt.rsplit("\n\n", 1)
        assert cue + reference in before
        assert len(texty.text_tokenizer.encode(reference, add_special_tokens=False)) == MAX_NEW_TOKENS
        assert cue.startswith("Sentence ")
        assert reference.startswith(" the others do. Sentence ")
        assert resolve(["text"], texty, TaskOptions())[0].score(example, reference)["score"] > 0.999


def test_profile_and_test_share_no_text(texty: Model, tmp_path: Path) -> None:
    for name in "abcde":
        (tmp_path / f"{name}.txt").write_text(" ".join(f"Line {number} of {name}." for number in range(60)))
    made = task(texty, haystack=tmp_path, lengths=(200,), examples=8)
    names = {
        split: {
            name
            for example in made.examples(split)
            for name in "abcde"
            if f" of {name}." in example.prompt + example.answers[0]
        }
        for split in ("profile", "test", "report")
    }
    assert names == {"profile": {"b", "d"}, "test": {"a", "e"}, "report": {"c"}}


def test_all_splits_of_one_short_text_have_each_example_once(texty: Model, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text(" ".join(f"Line {n} says as little as the others do." for n in range(4)))
    made = task(texty, haystack=tmp_path, lengths=(130, 180), examples=9)
    splits = [example for split in ("profile", "test", "report") for example in made.examples(split)]
    found = made.examples("all")
    assert len(splits) > len(found) == len({example.id for example in found})
    assert {example.id for example in found} == {example.id for example in splits}
    asked = {
        "options": TaskOptions(haystack=tmp_path, lengths=(130, 180), examples=9),
        "split": "all",
        "knobs": "papers",
    }
    plan = plan_request(request_of(["text"], ["full", "snapkv"], (24,), **asked), texty)
    execute(plan, tmp_path / "run")
    assert len(read_records(tmp_path / "run")) == plan.answers == 2 * len(found)


def test_draws_depend_on_seed_and_length_alone(texty: Model) -> None:
    both = task(texty, lengths=(300, 500), examples=3).examples("test")
    assert both[3:] == task(texty, lengths=(500,), examples=3).examples("test")
    assert both != task(texty, lengths=(300, 500), examples=3, seed=1).examples("test")
    assert len({example.id for example in both}) == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lengths": (32,)}, "asked for 32 tokens per prompt; give at least 64"),
        ({"examples": 0}, "0 examples"),
        ({"haystack": Path("nowhere")}, "does not exist"),
    ],
)
def test_bad_requests(texty: Model, options: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        task(texty, **options)


def test_a_sentence_longer_than_the_length(texty: Model, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("word " * 300 + ".")
    with pytest.raises(RequestError, match="too short for sentences"):
        task(texty, haystack=tmp_path, lengths=(100,)).examples("test")
