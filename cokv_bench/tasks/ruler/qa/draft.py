"""A question about a few paragraphs among many others."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from cokv_bench.errors import RequestError
from cokv_bench.tasks.made.draw import draw
from cokv_bench.tasks.made.words import normalise, occurs
from cokv_bench.tasks.ruler.draft import Draft
from cokv_bench.tasks.ruler.material import Material
from cokv_bench.tasks.ruler.qa.documents import Documents


@dataclass(frozen=True)
class Answering:
    """Drafts of questions about the documents; a unit of context is a paragraph that does not answer them."""

    documents: Documents

    def __call__(self, material: Material) -> Draft:
        """The draft of an example. Its number decides the question, which is the same one at every length.

        Raises:
            RequestError: the split has fewer questions.
        """
        asked = self.documents.questions[material.split]
        if material.number >= len(asked):
            raise RequestError(
                f"The question file has {len(asked)} questions for the {material.split} split and more examples were "
                "asked for; lower --examples or give a larger file with --ruler-qa."
            )
        order = shuffled(asked, lambda n, i: draw(n, "ruler", material.series, "question", i))
        question = next(islice(order, material.number, None))
        answers = [normalise(answer) for answer in question.answers]
        drawn = shuffled(self.documents.paragraphs[material.split], lambda n, i: material.below(n, "paragraph", i))
        others = _Taken(
            text
            for text in drawn
            # The answer must stand in the golden paragraphs alone, or keeping another one would do.
            if text not in question.golden and not any(occurs(answer, self.documents.words(text)) for answer in answers)
        )

        def context(units: int) -> str:
            documents = material.shuffled([*question.golden, *others.first(units)])
            numbered = [f"Document {i}:\n{text}" for i, text in enumerate(documents, start=1)]
            return "\n\n".join([f"The documents below are followed by a question. {_WISH}", *numbered])

        return Draft(
            question.answers,
            context,
            f"The question about the documents above follows. {_WISH}\n\nQuestion: {question.text}",
            available=lambda units: len(others.first(units)),
            source=question.golden,
        )


# Before and after the documents, as published.
_WISH = "Answer it from the documents, and write the answer alone, without any other words."

T = TypeVar("T")


class _Taken:
    """The first texts of a stream that is read as far as needed."""

    def __init__(self, stream: Iterable[str]) -> None:
        self._stream = iter(stream)
        self._texts: list[str] = []

    def first(self, count: int) -> list[str]:
        """The first `count` texts, or all where there are fewer."""
        self._texts += islice(self._stream, max(0, count - len(self._texts)))
        return self._texts[:count]


def shuffled(items: Sequence[T], below: Callable[[int, int], int]) -> Iterator[T]:
    """The items in a drawn order, each once, drawn one by one as they are asked for.

    Args:
        below: a number in 0..n-1 for n and the place in the order.
    """
    left = list(items)
    for i in range(len(left)):
        other = i + below(len(left) - i, i)
        left[i], left[other] = left[other], left[i]
        yield left[i]
