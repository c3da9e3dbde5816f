"""The files of RULER's question answering: shapes recognised by their content, and what is wrong with others."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench.errors import RequestError
from cokv_bench.tasks.ruler import read_qa
from cokv_bench.tasks.ruler.qa import Documents, Question
from cokv_bench.tasks.ruler.qa.shapes import hotpotqa, squad
from tests.tasks.test_ruler_qa import hotpot_rows, squad_rows

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(RequestError) as refused:
        read_qa([path])
    message = str(refused.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def questions_of(found: Documents) -> list[Question]:
    return [question for side in found.questions.values() for question in side]


# ---------------------------------------------------------------- shapes


def test_the_content_and_not_the_name_decides(tmp_path: Path) -> None:
    one = write(tmp_path / "hotpot_dev_distractor_v1.json", squad_rows())
    two = write(tmp_path / "dev-v2.0.json", "\ufeff" + json.dumps(hotpot_rows()))
    found = read_qa([two, one])
    assert sorted(found) == ["qa_1", "qa_2"]
    assert len(questions_of(found["qa_1"])) == 40 * 4
    assert read_qa([]) == {}
    with pytest.raises(RequestError, match="is a second one in SQuAD's shape; give one of each"):
        read_qa([one, write(tmp_path / "other.json", squad_rows(2))])


def test_squad_by_hand() -> None:
    paragraph = {
        "context": " Ada lived in London. She wrote. ",
        "qas": [
            {"question": "Where?", "answers": [{"text": "London"}, {"text": "in London"}, {"text": "London"}]},
            {"question": "When?", "is_impossible": True, "answers": [], "plausible_answers": [{"text": "London"}]},
            {"question": "Why?", "is_impossible": True, "answers": [{"text": "London"}]},
            {"question": "Who?", "is_impossible": False, "answers": [{"text": "Ada"}]},
        ],
    }
    found = squad({"data": [{"title": "Ada", "paragraphs": [paragraph]}]}, "file")
    context = "Ada lived in London. She wrote."
    assert questions_of(found) == [
        Question("Where?", ("London", "in London"), (context,)),
        Question("Who?", ("Ada",), (context,)),
    ]
    assert sorted(found.paragraphs.values()) == [[], [], [context]]


def test_hotpotqa_by_hand() -> None:
    row = {
        "question": "Where was the author of Notes born?",
        "answer": "london",
        "context": [
            ["Ada", ["Ada wrote.", " She was born in London."]],
            ["Bob", [" Bob. ", "", "Bob!"]],
            ["Notes", []],
        ],
        "supporting_facts": [["Ada", 1], ["Ada", 0]],
    }
    (question,) = questions_of(hotpotqa([row], "file"))
    assert question == Question(row["question"], ("london",), ("Ada\nAda wrote. She was born in London.",))
    found = hotpotqa([row], "file")
    assert {text for side in found.paragraphs.values() for text in side} == {
        *question.golden,
        "Bob\nBob. Bob!",
        "Notes",
    }


def test_what_cannot_be_asked_is_left_out() -> None:
    row = hotpot_rows(1)[0]
    assert not questions_of(hotpotqa([{**row, "answer": "yes", "supporting_facts": [["Film 0", 0]]}], "file"))
    kept = {**row, "answer": "Maker 0", "supporting_facts": [["Film 0", 0]]}
    other = {**kept, "answer": "Maker 0", "supporting_facts": [["Maker 0", 0]]}
    assert [question.answers for question in questions_of(hotpotqa([kept, other], "file"))] == [("Maker 0",)]


def test_no_answer_of_a_question_asked_twice_is_lost() -> None:
    kept = {**hotpot_rows(1)[0], "answer": "Maker 0", "supporting_facts": [["Film 0", 0]]}
    again = {**kept, "answer": "Film 0"}
    for rows in ([kept, again], [again, kept, kept]):
        (question,) = questions_of(hotpotqa(rows, "file"))
        assert set(question.answers) == {"Maker 0", "Film 0"}
        assert len(question.answers) == 2


def test_an_answer_that_stands_in_the_text_comes_first() -> None:
    found = Documents()
    found.add_paragraph("Title", "The tower is 12 feet high.")
    found.add_question("How high?", ["twelve feet", "12 Feet", "4 yards"], ["The tower is 12 feet high."])
    assert questions_of(found)[0].answers == ("12 Feet", "twelve feet", "4 yards")


# ---------------------------------------------------------------- malformed files


def test_files_that_are_no_json(tmp_path: Path) -> None:
    assert "not readable as UTF-8 text" in refusal(tmp_path / "missing.json")
    assert "not readable as UTF-8 text" in refusal(tmp_path)
    latin = tmp_path / "latin.json"
    latin.write_bytes('{"data": "é"}'.encode("latin-1"))
    assert "not readable as UTF-8 text" in refusal(latin)
    assert "line 2, is not valid JSON" in refusal(write(tmp_path / "cut.json", '{"data":\n['))
    assert "line 1, is not valid JSON" in refusal(write(tmp_path / "empty.json", ""))
    assert "too deep or too long" in refusal(write(tmp_path / "deep.json", "[" * 200_000))
    assert "too deep or too long" in refusal(write(tmp_path / "number.json", "[" + "9" * 5000 + "]"))


@pytest.mark.parametrize("value", [{}, {"rows": []}, 3, "data", None])
def test_neither_shape(tmp_path: Path, value: Any) -> None:
    message = refusal(write(tmp_path / "other.json", json.dumps(value)))
    assert "neither SQuAD's shape" in message
    assert "dev-v2.0.json" in message
    assert "hotpot_dev_distractor_v1.json" in message


@pytest.mark.parametrize("value", [[], {"data": []}, {"data": [{"title": "T", "paragraphs": []}]}])
def test_no_question(tmp_path: Path, value: Any) -> None:
    assert "holds no question whose answer stands" in refusal(write(tmp_path / "none.json", value))


# where, a value to put there (None: take the field away), and what the message says
SQUAD = [
    (("data",), 3, "the field 'data' is not a list"),
    (("data", 1), [], ", data[1] is not a JSON object"),
    (("data", 1, "title"), None, ", data[1] has no field 'title'"),
    (("data", 1, "title"), " ", "data[1]: the field 'title' is not a text"),
    (("data", 1, "paragraphs"), {}, "data[1]: the field 'paragraphs' is not a list"),
    (("data", 1, "paragraphs", 2, "context"), None, "data[1].paragraphs[2] has no field 'context'"),
    (("data", 0, "paragraphs", 2, "context"), ["a"], "data[0].paragraphs[2]: the field 'context' is not a text"),
    (("data", 0, "paragraphs", 2, "context"), "\ud800", "data[0].paragraphs[2]: the field 'context' is not a text"),
    (("data", 0, "paragraphs", 0, "qas"), None, "data[0].paragraphs[0] has no field 'qas'"),
    (("data", 0, "paragraphs", 0, "qas", 1), 1, "data[0].paragraphs[0].qas[1] is not a JSON object"),
    (("data", 0, "paragraphs", 0, "qas", 0, "question"), 7, "qas[0]: the field 'question' is not a text"),
    (("data", 0, "paragraphs", 0, "qas", 0, "answers"), None, "qas[0] has no field 'answers'"),
    (("data", 0, "paragraphs", 0, "qas", 0, "answers", 1), "x", "qas[0].answers[1] is not a JSON object"),
    (("data", 0, "paragraphs", 0, "qas", 0, "answers", 1, "text"), "", "answers[1]: the field 'text' is not a text"),
]
HOTPOT = [
    ((1,), "row", ", [1] is not a JSON object"),
    ((1, "question"), None, ", [1] has no field 'question'"),
    ((1, "answer"), None, ", [1] has no field 'answer'"),
    ((1, "context"), {"title": []}, "[1]: the field 'context' is not a list"),
    ((1, "context", 0), ["title"], "[1].context[0] is not a title and a list"),
    ((1, "context", 0, 0), 5, "[1].context[0] is not a title and a list"),
    ((1, "context", 0, 1), "text", "[1].context[0] is not a title and a list"),
    ((1, "context", 0, 1, 0), 5, "[1].context[0] has a sentence that is no text"),
    ((1, "context", 0, 1, 0), "\udfff", "[1].context[0] has a sentence that is no text"),
    ((1, "supporting_facts"), None, "[1] has no field 'supporting_facts'"),
    ((1, "supporting_facts"), [], "[1]: supporting_facts names nothing"),
    ((1, "supporting_facts", 0), ["Film 1", "0"], "[1].supporting_facts[0] is not a title and a number"),
    ((1, "supporting_facts", 0, 0), "Else", "[1]: supporting_facts names 'Else'"),
]


@pytest.mark.parametrize(
    ("shape", "where", "value", "says"), [("squad", *c) for c in SQUAD] + [("hp", *c) for c in HOTPOT]
)
def test_a_malformed_place_is_named(tmp_path: Path, shape: str, where: tuple[Any, ...], value: Any, says: str) -> None:
    rows: Any = copy.deepcopy(squad_rows(2) if shape == "squad" else hotpot_rows(2))
    inner = rows
    for step in where[:-1]:
        inner = inner[step]
    if value is None:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    message = refusal(write(tmp_path / "bad.json", rows))
    assert says in message
    assert "; give the" in message


@given(JSON, st.data())
def test_no_value_makes_anything_but_a_refusal(value: Any, data: st.DataObject) -> None:
    """Any JSON value in any place is either read or refused."""
    rows: Any = data.draw(st.sampled_from([squad_rows(2, 2), hotpot_rows(2)]))
    read = squad if isinstance(rows, dict) else hotpotqa
    inner = rows
    while True:
        steps = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        step = data.draw(st.sampled_from(steps))
        if not isinstance(inner[step], dict | list) or not inner[step] or data.draw(st.booleans()):
            break
        inner = inner[step]
    inner[step] = value
    try:
        found = read(rows, "file")
    except RequestError:
        return
    assert all(question.answers and question.golden for question in questions_of(found))
