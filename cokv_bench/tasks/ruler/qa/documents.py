"""What a file of questions holds, dealt to the splits."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cokv_bench.tasks.base import Split
from cokv_bench.tasks.needle.draw import value_side
from cokv_bench.tasks.needle.score import normalise


@dataclass(frozen=True)
class Question:
    """A question, the accepted answers (the first of them stands in `golden`), and the paragraphs that answer it."""

    text: str
    answers: tuple[str, ...]
    golden: tuple[str, ...]


@dataclass
class Documents:
    """Paragraphs and questions by split, in file order; "profile" and "test" share none of either.

    A hash of the title that a paragraph stands under decides its split. A question belongs to the split of its golden
    paragraphs.
    """

    paragraphs: dict[Split, list[str]] = field(default_factory=lambda: {"profile": [], "test": []})
    questions: dict[Split, list[Question]] = field(default_factory=lambda: {"profile": [], "test": []})
    _sides: dict[str, Split] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)
    _words: dict[str, str] = field(default_factory=dict)

    def add_paragraph(self, title: str, text: str) -> None:
        """Add a paragraph; one that is known already keeps its split."""
        if text not in self._sides:
            split: Split = "profile" if value_side(title) == "profile" else "test"
            self._sides[text] = split
            self.paragraphs[split].append(text)

    def add_question(self, text: str, answers: Sequence[str], golden: Sequence[str]) -> None:
        """Add a question about known paragraphs, if it can be asked.

        Left out are questions whose golden paragraphs belong to different splits, whose answers stand in none of them
        (HotpotQA's yes and no), and those asked before, since the same words about another paragraph have two answers.

        Args:
            golden: at least one.
        """
        splits = {self._sides[paragraph] for paragraph in golden}
        told = "\n\n".join(golden).lower()
        # Stable, so the order stays but for answers that no one can find.
        ranked = sorted(dict.fromkeys(answers), key=lambda answer: answer.lower() not in told)
        if len(splits) > 1 or ranked[0].lower() not in told or text in self._asked:
            return
        self._asked.add(text)
        self.questions[splits.pop()].append(Question(text, tuple(ranked), tuple(golden)))

    def words(self, paragraph: str) -> str:
        """The paragraph in the form in which answers are looked for; made once, when first asked for."""
        if paragraph not in self._words:
            self._words[paragraph] = normalise(paragraph)
        return self._words[paragraph]
