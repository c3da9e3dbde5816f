"""An example on its way: all of it but how much context its length leaves room for."""

from collections.abc import Callable
from dataclasses import dataclass, replace


def _all_of(units: int) -> int:
    return units


@dataclass(frozen=True)
class Asked:
    """A question with all references."""

    question: str
    answers: tuple[str, ...]

    @property
    def end(self) -> str:
        """The question with the gap before it."""
        return f"\n\n{self.question}"


@dataclass(frozen=True)
class Draft:
    """An example whose context has no size yet.

    Attributes:
        answers: all references.
        context: what stands before the question, with so many units (sentences, words, needles, paragraphs), 0 or
            more.
        question: the end of the prompt, the same for every size.
        available: how many of so many units there are; by default all, since most contexts are endless.
        source: texts that other examples may be made from too, such as the paragraphs that a question is about.
        later: further questions about the context.
    """

    answers: tuple[str, ...]
    context: Callable[[int], str]
    question: str
    available: Callable[[int], int] = _all_of
    source: tuple[str, ...] = ()
    later: tuple[Asked, ...] = ()

    @property
    def questions(self) -> tuple[Asked, ...]:
        """The question, and the later ones."""
        return Asked(self.question, self.answers), *self.later

    def prompt(self, units: int) -> str:
        """The prompt with so many units of context."""
        return self.context(units) + self.questions[0].end

    def after(self, example: str) -> "Draft":
        """The same task with a worked example before its context."""
        return replace(self, context=lambda units: f"{example}\n\n{self.context(units)}")


def worked(draft: Draft, units: int, answer: str) -> str:
    """A prompt with so many units, and the answer to it."""
    return f"{draft.prompt(units)}\n\nAnswer: {answer}"
