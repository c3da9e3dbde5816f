"""From the files of `--ruler-qa` to paragraphs and questions by subtask."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.tasks.ruler.qa import shapes
from cokv_bench.tasks.ruler.qa.documents import Documents


@dataclass(frozen=True)
class Published:
    """A published shape: the data set's name, where such a file is published, and how its JSON value is read."""

    data_set: str
    published: str
    read: Callable[[Any, str], Documents]


PUBLISHED: dict[str, Published] = {
    "qa_1": Published("SQuAD", "dev-v2.0.json at https://rajpurkar.github.io/SQuAD-explorer", shapes.squad),
    "qa_2": Published("HotpotQA", "hotpot_dev_distractor_v1.json at https://hotpotqa.github.io", shapes.hotpotqa),
}


def read_qa(paths: Sequence[Path]) -> dict[str, Documents]:
    """What the files hold, under the subtask that takes it; the content decides which subtask that is.

    Args:
        paths: JSON files in SQuAD's or HotpotQA's shape, at most one of each.

    Raises:
        RequestError: a file is not readable as JSON, has neither shape, lacks a field or holds no question that can
            be asked, or two files have the same shape.
    """
    found: dict[str, Documents] = {}
    for path in paths:
        file = f"Question file '{path}'"
        parsed = _parse(path, file)
        subtask = _subtask_of(parsed, file)
        if subtask in found:
            raise RequestError(f"{file} is a second one in {PUBLISHED[subtask].data_set}'s shape; give one of each.")
        found[subtask] = PUBLISHED[subtask].read(parsed, file)
        if not any(found[subtask].questions.values()):
            raise RequestError(f"{file} holds no question whose answer stands in its paragraphs; give another file.")
    return found


def _parse(path: Path, file: str) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{file} is not readable as UTF-8 text; give a JSON file.") from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RequestError(
            f"{file}, line {error.lineno}, is not valid JSON ({error.msg}); download it again."
        ) from error
    except (ValueError, RecursionError) as error:  # A number of thousands of digits, thousands of brackets.
        raise RequestError(f"{file} holds JSON that is too deep or too long to read; download it again.") from error


def _subtask_of(parsed: Any, file: str) -> str:
    if isinstance(parsed, dict) and "data" in parsed:
        return "qa_1"
    if isinstance(parsed, list):
        return "qa_2"
    raise RequestError(
        f"{file} has neither SQuAD's shape (an object with the list 'data') nor HotpotQA's (a list of questions); give "
        f"{' or '.join(shape.published for shape in PUBLISHED.values())}."
    )
