"""Write the rows of the demonstration's question-answering task, in LongBench's schema.

    python scripts/make_demo_rows.py [--out configs/demo/essays.jsonl]

Questions come from configs/demo/questions.yaml and texts from the essays packaged with the needle task. A context is
the essay that holds the answer, whole, with the beginnings of two others around it, in all at most 760 words. The
same inputs give the same bytes.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from cokv_bench.tasks.base import content_id

ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = ROOT / "configs/demo/questions.yaml"
ESSAYS = ROOT / "cokv_bench/tasks/made/haystack"
OUT = ROOT / "configs/demo/essays.jsonl"
WORDS = 760
PASSAGES = 3


def read_essays() -> dict[str, str]:
    """Essays by file stem, each paragraph on one line."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(ESSAYS.glob("*.txt"))}
    return {stem: _joined(" ".join(part.split()) for part in text.split("\n\n")) for stem, text in texts.items()}


def read_questions() -> list[dict[str, Any]]:
    """Entries with the keys essay, question and answers."""
    return yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))


def mentions(text: str, phrase: str) -> bool:
    """Whether a text holds a phrase as whole words, in any case."""
    return re.search(rf"\b{re.escape(phrase)}\b", text, re.IGNORECASE) is not None


def beginning(text: str, words: int) -> str:
    """The first sentences of a text that have at most so many words together, paragraphs kept."""
    kept: list[str] = []
    for paragraph in text.split("\n\n"):
        sentences: list[str] = []
        for sentence in re.split(r"(?<=[.!?])\s+", paragraph):
            words -= len(sentence.split())
            if words < 0:
                return _joined([*kept, " ".join(sentences)])
            sentences.append(sentence)
        kept.append(" ".join(sentences))
    return _joined(kept)


def make_row(index: int, entry: dict[str, Any], essays: dict[str, str]) -> dict[str, Any]:
    """One row; its place in the file decides which of the passages is the one that answers."""
    question, answers, stem = entry["question"], entry["answers"], entry["essay"]
    passages: list[str] = []
    others = _distractors(question, answers, stem, essays)
    left = WORDS - len(essays[stem].split()) - 2 * PASSAGES  # "Passage 1:" is two words.
    for other in others:
        passages.append(beginning(essays[other], left // (len(others) - len(passages))))
        left -= len(passages[-1].split())
    passages.insert(index % PASSAGES, essays[stem])
    context = _joined(f"Passage {number}:\n{text}" for number, text in enumerate(passages, start=1))
    return {
        "input": question,
        "context": context,
        "answers": answers,
        "length": len(context.split()),
        "dataset": "essays",
        "language": "en",
        "all_classes": None,
        "_id": content_id(question, context),
    }


def _distractors(question: str, answers: list[str], stem: str, essays: dict[str, str]) -> list[str]:
    """Two other essays, in an order that a hash decides; none mentions an answer."""
    others = [
        other
        for other, text in essays.items()
        if other != stem and not any(mentions(text, answer.removeprefix("the ")) for answer in answers)
    ]
    others.sort(key=lambda other: hashlib.sha256(f"{question}\0{other}".encode()).hexdigest())
    return others[: PASSAGES - 1]


def _joined(paragraphs: Iterable[str]) -> str:
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the demonstration's rows in LongBench's schema.")
    parser.add_argument("--out", type=Path, default=OUT, help="file to write (default: %(default)s)")
    out = parser.parse_args().out
    essays = read_essays()
    rows = [make_row(index, entry, essays) for index, entry in enumerate(read_questions())]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    out.write_text(text, encoding="utf-8", newline="\n")
    print(f"{len(rows)} rows written to {out}")


if __name__ == "__main__":
    main()
