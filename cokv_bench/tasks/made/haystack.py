"""The text in which needles are hidden: read from a folder, cut into sentences, begun anywhere."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.abc import Traversable
from pathlib import Path
from typing import Protocol

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import Split

# A sentence ends at a mark (and closing quotes) before white space, at a Chinese mark, and with its paragraph.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[.!?][\"')\]”’])\s+|(?<=[。！？])")
_WORD = re.compile(r"\s*(?:[\u3040-\u9fff]|[^\s\u3040-\u9fff]+)")


class Tokenizer(Protocol):
    """What this task needs of a tokenizer."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of the text."""
        ...


@dataclass(frozen=True)
class Document:
    """One file of the haystack: its path inside the folder and its text."""

    name: str
    text: str


def _packaged(name: str) -> list[Document]:
    folder: Traversable = resources.files(__package__).joinpath(name)
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".txt")), key=lambda f: f.name)
    return [Document(f.name, f.read_text(encoding="utf-8")) for f in files]


def read_documents(folder: str | Path | None = None) -> list[Document]:
    """The .txt files of a folder and its subfolders in the order of their names; None: the packaged essays.

    Raises RequestError where the folder is missing, holds no .txt file with text, or a file is not UTF-8.
    """
    if folder is None:
        return _packaged("haystack")
    root = Path(folder)
    if not root.is_dir():
        raise RequestError(f"Haystack folder '{root}' does not exist; give a folder that holds .txt files.")
    documents = []
    for path in sorted(root.rglob("*.txt"), key=lambda p: p.relative_to(root).as_posix()):
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"Haystack file '{path}' is not readable as UTF-8 text; convert it.") from error
        if text.strip():
            documents.append(Document(path.relative_to(root).as_posix(), text))
    if not documents:
        raise RequestError(f"Haystack folder '{root}' has no .txt file with text in it; put at least one there.")
    return documents


def side(documents: Sequence[Document], split: Split) -> list[Document]:
    """The documents of "profile" (every second one) or of "test" (the others); a lone document serves both."""
    if len(documents) < 2:
        return list(documents)
    return list(documents[1::2] if split == "profile" else documents[0::2])


def deal(folder: str | Path | None = None) -> dict[Split, list[Document]]:
    """The documents of a folder by split; None: the packaged essays, of which the report has some of its own.

    Of a user's documents every second one is "profile", and the others are "test" and "report" by turns. Where there
    are two, test and report read the same one; a lone one serves all.

    Raises RequestError as `read_documents` does.
    """
    documents = read_documents(folder)
    profile, others = side(documents, "profile"), side(documents, "test")
    if folder is None:
        return {"profile": profile, "test": others, "report": _packaged("haystack_report")}
    return {"profile": profile, "test": others[0::2], "report": others[1::2] or others}


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with the gap before it ("\\n\\n" or " "), line breaks in it made spaces."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        parts = [" ".join(part.split()) for part in _SENTENCE_END.split(paragraph)]
        found += [("\n\n" if i == 0 else " ") + part for i, part in enumerate(filter(None, parts))]
    return found


class Haystack:
    """An endless text: the documents' sentences from any one on, beginning again at the first after the last."""

    def __init__(self, documents: Sequence[Document], tokenizer: Tokenizer) -> None:
        self.names = [document.name for document in documents]
        self.sentences = [s for document in documents for s in sentences(document.text)]
        self._tokenizer = tokenizer
        self._counts: dict[int, int] = {}

    def tokens(self, text: str) -> int:
        """Number of tokens of a piece of text, no special tokens counted."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def count(self, index: int) -> int:
        """Number of tokens of sentence `index`; counted once, when first asked for."""
        if index not in self._counts:
            self._counts[index] = self.tokens(self.sentences[index])
        return self._counts[index]

    def stretch(self, start: int, tokens: int) -> "Stretch":
        """Sentences from `start` on that hold at least `tokens` tokens; short texts repeat from their start."""
        texts: list[str] = []
        counts: list[int] = []
        index, total = start % len(self.sentences), 0
        while total < tokens:
            texts.append(self.sentences[index] if texts else self.sentences[index].lstrip())
            # At least 1, so that a tokenizer with empty encodings cannot make this endless.
            counts.append(max(1, self.count(index)))
            total += counts[-1]
            index = (index + 1) % len(self.sentences)
        return Stretch(self, texts, counts)


class Stretch:
    """A finite run of sentences that can be cut after any word."""

    def __init__(self, haystack: Haystack, texts: list[str], counts: list[int]) -> None:
        self._haystack, self._texts, self._counts = haystack, texts, counts
        self._words = [_WORD.findall(text) for text in texts]
        self.n_words = sum(map(len, self._words))

    def cut(self, n_words: int) -> tuple[list[str], list[int]]:
        """The sentences of the first words and their token counts.

        A sentence cut short is closed with a full stop, so the text ends with a sentence and a needle at depth
        100% follows a sentence end like any other.
        """
        done = 0
        for i, words in enumerate(self._words):
            if done + len(words) <= n_words:
                done += len(words)
                continue
            if done == n_words:
                return self._texts[:i], self._counts[:i]
            rest = "".join(words[: n_words - done]).rstrip(",;:.!?-\"'([") + "."
            return [*self._texts[:i], rest], [*self._counts[:i], self._haystack.tokens(rest)]
        return self._texts, self._counts
