"""Prompts in two parts: the context that is compressed, and the question that is appended."""

from dataclasses import replace

import pytest

from cokv_bench.errors import RequestError
from cokv_bench.models import Model, encode_apart
from cokv_bench.tasks import Example
from cokv_bench.tasks.longbench import LongBenchTask, expand
from cokv_bench.tasks.prompts import Encoding, check_prompts, encode_example, encode_parts
from cokv_bench.tasks.rows.task import tail

APART = Encoding(question_agnostic=True)


def example(prompt: str, question: str, *, chat: bool = True, truncate: bool = True) -> Example:
    return Example("id", "task", prompt, ("x",), 8, chat=chat, truncate=truncate, question=question)


@pytest.mark.parametrize("chat", [True, False])
def test_the_parts_are_the_prompt(texty: Model, chat: bool) -> None:
    whole = example("It is warm. " * 20 + "\n\nWhat is it?", "\n\nWhat is it?", chat=chat)
    parts = encode_parts(texty, whole, APART)
    # A token a byte, so that cutting anywhere changes no token.
    assert parts.prompt + parts.question == encode_example(texty, whole)
    text = texty.text_tokenizer.decode(parts.question)
    assert text.startswith("\n\nWhat is it?")
    assert text.endswith("]") == chat


def test_the_question_outlasts_the_cut(texty: Model) -> None:
    long = example("abcde " * 200 + "Who?", "Who?")
    parts = encode_parts(texty, long, Encoding(max_length=100, question_agnostic=True))
    assert len(parts.prompt) + len(parts.question) <= 100 + 3
    assert texty.text_tokenizer.decode(parts.question) == "Who?]"
    with pytest.raises(RequestError, match="does not end with its question"):
        encode_parts(
            texty,
            example("a" * 200 + "Who is it that" + "?" * 60, "Who is it that" + "?" * 60),
            Encoding(max_length=100, question_agnostic=True),
        )


@pytest.mark.parametrize("answer", [2045, 2047, 2048, 3000])
def test_a_context_without_room_for_a_prompt_is_told(texty: Model, answer: int) -> None:
    long = replace(example("abcde " * 400, ""), max_new_tokens=answer)
    for encoding in (Encoding(), Encoding(max_length=900)):
        with pytest.raises(RequestError, match=f"holds 2048 tokens .* no room for .* before an answer of {answer}"):
            encode_parts(texty, long, encoding)
    with pytest.raises(RequestError, match="the maximum length must be at least 2"):
        encode_parts(texty, long, Encoding(max_length=1))


def test_prompts_without_a_question_are_refused(texty: Model) -> None:
    with pytest.raises(RequestError, match="no question after the context"):
        check_prompts(texty, [example("What?", "")], APART)
    check_prompts(texty, [example("What?", "")], Encoding())


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{context}\nQ: {input}\nA:", "\nQ: why\nA:"),
        ("{context}Next line:\n", "Next line:\n"),
        ("{input}\n{context}\nSay it.", ""),
        ("{input}", ""),
        ("{context}{context}{input}", ""),
    ],
)
def test_what_follows_the_context(template: str, expected: str) -> None:
    assert tail(template, "why") == expected


def test_every_longbench_prompt_ends_with_its_question(shared, texty: Model) -> None:
    for name in expand("longbench/all"):
        task = LongBenchTask(name, data_dir=shared / "longbench", seed=0, limit=2)
        for row in task.examples("all"):
            assert row.question.strip()
            assert row.prompt.endswith(row.question)
            if len(row.question.encode()) < 500:
                parts = encode_parts(texty, row, Encoding(max_length=1500, question_agnostic=True))
                assert row.question.strip() in texty.text_tokenizer.decode(parts.question)


def test_a_template_that_changes_the_text_is_refused(texty: Model) -> None:
    with pytest.raises(RequestError, match="does not end"):
        encode_apart(texty, "context only", "other", chat=True)
