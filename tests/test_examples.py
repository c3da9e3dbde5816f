"""The scripts under examples/ do what they say."""

import importlib.util
import io
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.kvcache import Generation
from cokv_bench.kvcache.continuation import Continuation
from cokv_bench.models import load_model
from cokv_bench.policies import get_policy

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def chat() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chat", EXAMPLES / "chat.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("method", "budget"), [("full", 64), ("snapkv", 5000)])
def test_with_all_kept_each_turn_is_what_rereading_the_conversation_gives(
    chat: ModuleType, texty_folder: Path, monkeypatch: pytest.MonkeyPatch, method: str, budget: int
) -> None:
    model = load_model(str(texty_folder), device="cpu")
    turns = recorded(monkeypatch)
    talk = chat.Chat(model, get_policy(method), budget, 12)
    said = ["The kite was made of silk. " * 9 + "What was it made of?", "And who flew it?", "Why?"]
    for text in said:
        talk.say(text)
    for (ids, made), text in zip(turns, said, strict=True):
        assert text in model.text(ids)
        again = model.network.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :].tolist()
        assert made == again
    # A turn begins with all that was said before it.
    for (ids, made), (following, _) in pairwise(turns):
        assert following[: len(ids) + len(made) - 1] == [*ids, *made][:-1]


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], list[int]]]:
    """Of every turn to come, the ids before it and those that are written."""
    plain, turns = Continuation.write, list[tuple[list[int], list[int]]]()

    def write(self: Continuation, *args: Any, **options: Any) -> Generation:
        before = list(self.token_ids)
        made = plain(self, *args, **options)
        turns.append((before, made.token_ids))
        return made

    monkeypatch.setattr(Continuation, "write", write)
    return turns


def test_a_turn_that_repeats_the_answer_is_read_as_a_whole(
    chat: ModuleType, texty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(texty_folder), device="cpu")
    made = model.tokenizer.encode("42", add_special_tokens=False)  # type: ignore[union-attr]

    def answer(self: Continuation, *args: Any, **options: Any) -> Generation:
        self.token_ids += made
        return Generation(made, "42")

    monkeypatch.setattr(Continuation, "write", answer)
    talk = chat.Chat(model, get_policy("full"), 64, 5)
    first = talk.say("What is six times seven? " * 5)
    assert first == "42"
    talk.say(f"Is {first} prime?")
    read = model.text(talk.text.token_ids)
    assert read.endswith(f"[Is {first} prime?]42")
    assert read.count("prime") == 1


def test_a_template_may_trim_what_the_model_has_said(
    chat: ModuleType, texty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(texty_folder), device="cpu")
    template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | trim }}{% endfor %}<assistant>"
    monkeypatch.setattr(model.tokenizer, "chat_template", template)
    answer = Generation(model.tokenizer.encode(" yes ", add_special_tokens=False), " yes ")  # type: ignore[union-attr]
    monkeypatch.setattr(Continuation, "write", lambda *_, **__: answer)
    talk = chat.Chat(model, get_policy("full"), 64, 5)
    assert talk.say("Is the kite of silk? " * 5) == " yes "
    talk.say("Who says so?")
    assert model.text(talk.text.token_ids).endswith("<user>Who says so?<assistant>")


def test_a_conversation_from_a_file(
    chat: ModuleType, texty_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("All kites are made of silk. " * 20, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO("What are kites made of?\nWho says so?\n\nnever read\n"))
    chat.main(text, model=str(texty_folder), method="snapkv", budget=32, answer_tokens=5)
    out = capsys.readouterr().out
    assert out.count("MiB of the cache are left") == 1
    kept, whole = (float(word) for word in out.split("[")[1].split() if word[0].isdigit())
    assert kept < whole / 5


def test_bad_input_is_one_sentence(chat: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("x\n"))
    with pytest.raises(RequestError, match="nowhere"):
        chat.main(tmp_path / "nowhere.txt")
    with pytest.raises(RequestError, match="did you mean snapkv"):
        chat.main(method="snapkw", model=str(tmp_path))
