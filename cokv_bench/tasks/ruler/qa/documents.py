"""What a file of questions holds, dealt to the splits."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cokv_bench.tasks.base import Split
from cokv_bench.tasks.made.draw import title_side
from cokv_bench.tasks.made.words import normalise


@dataclass(frozen=True)
class Question:
    """A question, the accepted answers (the first of them stands in `golden`), and the paragraphs that answer it."""

    text: str
    answers: tuple[str, ...]
    golden: tuple[str, ...]


@dataclass
class Documents:
    """Paragraphs and questions by split, in file order; no two splits share any of either.

    A hash of the title that a paragraph stands under decides its split. A question belongs to the split of its golden
    paragraphs.
    """

    paragraphs: dict[Split, list[str]] = field(default_factory=lambda: {"profile": [], "test": [], "report": []})
    questions: dict[Split, list[Question]] = field(default_factory=lambda: {"profile": [], "test": [], "report": []})
    _sides: dict[str, Split] = field(default_factory=dict)
    _asked: dict[str, tuple[Split, int]] = field(default_factory=dict)  # Question -> split and place in `questions`.
    _words: dict[str, str] = field(default_factory=dict)

    def add_paragraph(self, title: str, text: str) -> None:
        """Add a paragraph; one that is known already keeps its split."""
        if text not in self._sides:
            split = title_side(title)
            self._sides[text] = split
            self.paragraphs[split].append(text)

    def add_question(self, text: str, answers: Sequence[str], golden: Sequence[str]) -> None:
        """Add a question about known paragraphs, if it can be asked.

        Left out are questions whose golden paragraphs belong to different splits, whose answers stand in none of them
        (HotpotQA's yes and no), and those asked before about other paragraphs, since the same words have two answers.
        The same question about the same paragraphs is one question, and all its answers are accepted.

        Args:
            golden: at least one.
        """
        splits = {self._sides[paragraph] for paragraph in golden}
        known = None
        if text in self._asked:
            split, place = self._asked[text]
            known = self.questions[split][place]
            if set(known.golden) != set(golden):
                return
            answers = [*known.answers, *answers]
        told = "\n\n".join(golden).lower()
        # Stable, so the order stays but for answers that no one can find.
        ranked = sorted(dict.fromkeys(answers), key=lambda answer: answer.lower() not in told)
        if len(splits) > 1 or ranked[0].lower() not in told:
            return
        found = Question(text, tuple(ranked), tuple(golden))
        if known is None:
            (split,) = splits
            self._asked[text] = split, len(self.questions[split])
            self.questions[split].append(found)
        else:
            self.questions[split][place] = replace(known, answers=found.answers)

    def words(self, paragraph: str) -> str:
        """The paragraph in the form in which answers are looked for; made once, when first asked for."""
        if paragraph not in self._words:
            self._words[paragraph] = normalise(paragraph)
        return self._words[paragraph]
