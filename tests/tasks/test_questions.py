"""Several questions of one context: how they are made, and the tokens that follow a compressed prompt."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest

from cokv_bench.errors import RequestError
from cokv_bench.models import Model, encode, encode_turn
from cokv_bench.tasks import Example, Split
from cokv_bench.tasks.family import UncountedError
from cokv_bench.tasks.metrics import asks_for_all
from cokv_bench.tasks.needle.insert import insert
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.prompts import Encoding, encode_parts
from cokv_bench.tasks.questions import per_context, together
from cokv_bench.tasks.registry import check, family_of, resolve
from cokv_bench.tasks.rows.jsonl import JsonlTask

CONTEXT = "The door is red. The roof is grey."


def asked(number: int, question: str, answer: str = "red", context: str = CONTEXT) -> Example:
    end = f"\n\n{question}"
    return Example(str(number), "task", context + end, (answer,), 8, question=end)


DOOR, ROOF, WALL = asked(0, "Colour of the door?"), asked(1, "And the roof?", "grey"), asked(2, "Who?", "nobody")


def test_rows_of_a_context_are_dealt_into_examples() -> None:
    others = [asked(3 + k, f"{k}?", context="Another.") for k in range(5)]
    found = per_context([DOOR, others[0], ROOF, *others[1:], WALL], 2)
    assert [(each.prompt, [later.prompt for later in each.later]) for each in found] == [
        (DOOR.prompt, [ROOF.prompt]),
        (others[0].prompt, [others[1].prompt]),
        (others[2].prompt, [others[3].prompt]),
    ]
    assert (
        len({each.id for each in [DOOR, *found]}) == 4
    )  # The same first question is another example without later ones.
    assert together([DOOR]) == DOOR
    with pytest.raises(RequestError, match="No context of 'task' has 3 questions in this split, and 2 at most"):
        per_context([DOOR, ROOF], 3)
    with pytest.raises(RequestError, match="no question after the context"):
        per_context([replace(DOOR, question="")], 2)


def test_what_follows_a_prompt_is_what_the_whole_talk_has(texty: Model) -> None:
    """The prompt's ids and those of a later question are those of a talk written by the template at once."""
    encoded = encode_parts(texty, together([DOOR, ROOF, WALL]), Encoding())
    assert encoded.prompt == encode(texty, DOOR.prompt, chat=True)
    assert encoded.question == []
    turns = [("user", DOOR.prompt), ("assistant", "red"), ("user", "And the roof?")]
    talk = texty.tokenizer.apply_chat_template(
        [{"role": role, "content": text} for role, text in turns], tokenize=False, add_generation_prompt=True
    )
    # This template has no opening of an answer, so the answer's own signs come in between.
    assert texty.text_tokenizer.decode(encoded.prompt + encoded.later[0]) == talk.replace("<bos>[red", "red")
    assert texty.text_tokenizer.decode(encoded.later[1]) == "red]<bos>[Who?]"


def test_where_all_answers_are_asked_for_all_are_told(texty: Model) -> None:
    """One reference of several may be a whole answer, and then a later question follows the first of them."""
    for joint, told in ((True, "red, blue"), (False, "red")):
        several = replace(DOOR, answers=("red", "blue"), joint=joint)
        encoded = encode_parts(texty, together([several, ROOF]), Encoding())
        alone = encode_parts(texty, together([replace(DOOR, answers=(told,)), ROOF]), Encoding())
        assert encoded == alone
    found = {}
    for name in ("ruler/niah_multivalue", "ruler/vt", "ruler/niah_single_2"):
        (task,) = resolve((name,), texty, TaskOptions((name,), lengths=(1700,), examples=1, questions=2))
        (example,) = task.examples("test")
        assert example.told == ", ".join(example.answers)
        found[name] = len(example.answers)
    assert found["ruler/niah_single_2"] == 1 < min(found["ruler/niah_multivalue"], found["ruler/vt"])
    assert [asks_for_all(name) for name in ("string_match_all", "speaker", "qa_f1")] == [True, False, False]


def test_without_a_template_an_empty_line_parts_answer_and_question(texty: Model) -> None:
    plain = [replace(each, chat=False) for each in (DOOR, ROOF)]
    encoded = encode_parts(texty, together(plain), Encoding())
    assert texty.text_tokenizer.decode(encoded.prompt + encoded.later[0]).endswith("door? red\n\nAnd the roof?")


def test_a_template_without_a_second_turn_is_told(texty: Model) -> None:
    tokenizer = copy.deepcopy(texty.tokenizer)
    tokenizer.chat_template = "<bos>[{{ messages[0]['content'] }}]"
    single = Model(texty.name, texty.network, tokenizer, texty.files)
    with pytest.raises(RequestError, match="does not write a second question"):
        encode_turn(single, "red", "Who?", chat=True)


def test_before_any_question_is_known_all_follow_the_same_context(texty: Model) -> None:
    apart = encode_parts(texty, together([DOOR, ROOF, WALL]), Encoding(question_agnostic=True))
    for example, ids in zip((DOOR, ROOF, WALL), (apart.question, *apart.later), strict=True):
        assert apart.prompt + ids == encode(texty, example.prompt, chat=True)


def test_a_cut_prompt_keeps_room_for_the_longest_question(texty: Model) -> None:
    long = [
        replace(each, prompt="abcde " * 400 + each.question, truncate=True, max_new_tokens=24)
        for each in (DOOR, asked(1, "x" * 300))
    ]
    encoded = encode_parts(texty, together(long), Encoding())
    assert len(encoded.prompt) + len(encoded.later[0]) + 24 <= texty.context
    with pytest.raises(RequestError, match="has no answer, which its later questions follow"):
        encode_parts(texty, together([replace(DOOR, answers=()), ROOF]), Encoding())


def test_needles_of_one_place_keep_their_order() -> None:
    text, places = insert(["A b.", " C d."], [2, 2], [("X.", 50), ("Y.", 0), ("Z.", 60), ("W.", 100)])
    assert (text, places) == ("Y. A b. X. Z. C d. W.", [50.0, 0.0, 50.0, 100.0])


@pytest.mark.parametrize("name", ["needle", "ruler/niah_single_2", "ruler/niah_multikey_3", "ruler/vt"])
@pytest.mark.parametrize("split", ["profile", "test"])
def test_every_question_has_its_answers_in_the_context(texty: Model, name: str, split: Split) -> None:
    options = TaskOptions((name,), lengths=(1700,), examples=3, questions=3)
    (several,) = resolve((name,), texty, options)
    (single,) = resolve((name,), texty, replace(options, questions=1))
    for example, alone in zip(several.examples(split), single.examples(split), strict=True):
        questions = (example, *example.later)
        assert (example.question, example.answers) == (alone.question, alone.answers)
        assert len({each.question for each in questions}) == 3
        assert len({each.answers for each in questions}) == 3
        context = example.prompt.removesuffix(example.question)
        for each in questions:
            assert each.prompt == context + each.question
            assert all(answer in context for answer in each.answers)
        assert len(encode(texty, example.prompt, chat=True)) <= 1700


def test_chains_of_variables_run_at_the_same_time(texty: Model) -> None:
    (task,) = resolve(("ruler/vt",), texty, TaskOptions(lengths=(1700,), examples=1, questions=2))
    (example,) = task.examples("test")
    for each in (example, *example.later):
        starts = [example.prompt.index(f"VAR {name} =") for name in each.answers]
        assert starts == sorted(starts)
        value = each.question.split("value ")[1].split(".")[0]
        assert f"VAR {each.answers[0]} = {value}." in example.prompt
        for name, before in zip(each.answers[1:], each.answers, strict=False):
            assert f"VAR {name} = VAR {before}." in example.prompt
    first, second = example.answers, example.later[0].answers
    assert example.prompt.index(f"VAR {second[0]} =") < example.prompt.index(f"VAR {first[1]} =")


def test_own_needles_are_asked_together(texty: Model, tmp_path: Path) -> None:
    lines = [
        {"needle": f"Tower {k} is {k} feet high.", "question": f"How high is {k}?", "answer": f"{k} feet"}
        for k in range(40)
    ]
    (tmp_path / "n.jsonl").write_text("\n".join(map(json.dumps, lines)))
    options = TaskOptions(lengths=(1500,), examples=2, needles=tmp_path / "n.jsonl", questions=4)
    (task,) = resolve(("needle",), texty, options)
    for example in task.examples("test"):
        assert len({example.question, *(each.question for each in example.later)}) == 4
    (task,) = resolve(("needle",), texty, replace(options, questions=39))
    with pytest.raises(RequestError, match="too few different questions in the test split for 39"):
        task.examples("test")


def test_rows_of_the_users_share_contexts(tmp_path: Path) -> None:
    rows = [{"context": f"Page {k // 3}.", "input": f"What {k}?", "answers": [str(k)]} for k in range(9)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = JsonlTask(tmp_path / "rows.jsonl", questions=2, limit=2)
    assert [(each.answers, each.later[0].answers) for each in task.examples("all")] == [
        (("0",), ("1",)),
        (("3",), ("4",)),
    ]


def test_tasks_with_one_question_are_refused() -> None:
    for name in ("text", "ruler/cwe", "ruler"):
        with pytest.raises(RequestError, match=r"has one question per context; .* needle, ruler, longbench, jsonl"):
            check((name,), TaskOptions((name,), questions=2))
    check(("needle", "ruler/vt", "longbench/qasper"), TaskOptions(questions=2))
    with pytest.raises(UncountedError, match="not known before rows are read"):
        family_of("longbench/qasper").size("longbench/qasper", TaskOptions(questions=2), "test", None)
