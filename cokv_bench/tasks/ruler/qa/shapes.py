"""The two published shapes of question files, told apart by their content."""

from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.tasks.ruler.qa.documents import Documents


def squad(parsed: Any, file: str) -> Documents:
    """SQuAD 1.1 and 2.0 (Rajpurkar et al., arXiv 1606.05250, 1806.03822): articles of paragraphs with questions.

    Questions without an answer (2.0) are skipped.

    Args:
        parsed: the JSON value of the file.
        file: names the file in messages.

    Raises:
        RequestError: a field is missing or of the wrong type.
    """
    found = Documents()
    for i, article in enumerate(_list(parsed, "data", file)):
        at = f"{file}, data[{i}]"
        title = _text(article, "title", at)
        for j, paragraph in enumerate(_list(article, "paragraphs", at)):
            place = f"{at}.paragraphs[{j}]"
            context = _text(paragraph, "context", place)
            found.add_paragraph(title, context)
            for k, asked in enumerate(_list(paragraph, "qas", place)):
                _squad_question(found, context, asked, f"{place}.qas[{k}]")
    return found


def _squad_question(found: Documents, context: str, asked: Any, place: str) -> None:
    question = _text(asked, "question", place)
    answers = [
        _text(answer, "text", f"{place}.answers[{n}]") for n, answer in enumerate(_list(asked, "answers", place))
    ]
    if answers and asked.get("is_impossible") is not True:
        found.add_question(question, answers, [context])


def hotpotqa(parsed: Any, file: str) -> Documents:
    """HotpotQA (Yang et al., arXiv 1809.09600), the distractor setting: questions, each with paragraphs of its own.

    The golden paragraphs are those that `supporting_facts` names. A paragraph is its title, a line break and its
    sentences.

    Args:
        parsed: the JSON value of the file.
        file: names the file in messages.

    Raises:
        RequestError: a field is missing or of the wrong type, or a golden paragraph is not among the question's own.
    """
    found = Documents()
    for i, row in enumerate(parsed):
        place = f"{file}, [{i}]"
        question, answer = _text(row, "question", place), _text(row, "answer", place)
        paragraphs: dict[str, str] = {}
        for j, entry in enumerate(_list(row, "context", place)):
            title, sentences = _titled(entry, list, "a list", f"{place}.context[{j}]")
            if not all(_is_unicode(sentence) for sentence in sentences):
                raise RequestError(f"{place}.context[{j}] has a sentence that is no text; {_MEND}.")
            paragraphs[title] = "\n".join([title, " ".join(filter(None, map(str.strip, sentences)))]).strip()
            found.add_paragraph(title, paragraphs[title])
        facts = _list(row, "supporting_facts", place)
        titles = dict.fromkeys(
            _titled(fact, int, "a number", f"{place}.supporting_facts[{n}]")[0] for n, fact in enumerate(facts)
        )
        missing = [title for title in titles if title not in paragraphs]
        if missing or not titles:
            what = f"'{missing[0]:.60}'" if missing else "nothing"
            raise RequestError(
                f"{place}: supporting_facts names {what}, but it must name paragraphs of the context; "
                "give the distractor file of HotpotQA, hotpot_dev_distractor_v1.json."
            )
        found.add_question(question, [answer], [paragraphs[title] for title in titles])
    return found


_MEND = "give the file as it is published"


def _field(row: Any, name: str, place: str) -> Any:
    if not isinstance(row, dict):
        raise RequestError(f"{place} is not a JSON object; {_MEND}.")
    if name not in row:
        raise RequestError(f"{place} has no field '{name}'; {_MEND}.")
    return row[name]


def _list(row: Any, name: str, place: str) -> list[Any]:
    value = _field(row, name, place)
    if not isinstance(value, list):
        raise RequestError(f"{place}: the field '{name}' is not a list; {_MEND}.")
    return value


def _text(row: Any, name: str, place: str) -> str:
    value = _field(row, name, place)
    if not _is_unicode(value) or not value.strip():
        raise RequestError(f"{place}: the field '{name}' is not a text with something in it; {_MEND}.")
    return value.strip()


def _titled(entry: Any, kind: type, what: str, place: str) -> tuple[str, Any]:
    """A pair of a title and something else of a kind that `what` names."""
    match entry:
        case [title, other] if _is_unicode(title) and title.strip() and isinstance(other, kind):
            return title, other
    raise RequestError(f"{place} is not a title and {what}; {_MEND}.")


def _is_unicode(value: Any) -> bool:
    """Whether a JSON value is a text without halves of surrogate pairs, which no tokenizer takes."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
