"""Several questions of one context, of which the first is an example and has the others with it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import Example, content_id


def together(examples: Sequence[Example]) -> Example:
    """The first example with the others as its later ones; alone it stays what it is.

    Args:
        examples: with one context and different questions, in the order in which they are asked.
    """
    first, *later = examples
    if not later:
        return first
    ids = tuple(each.id for each in examples)
    return replace(first, id=content_id(*ids), later=tuple(later), questions=ids)


def per_context(examples: Iterable[Example], count: int) -> list[Example]:
    """Examples of `count` questions each, of rows that have a question each.

    Rows of a context are taken in their order, as often as there are `count` of them; those that are left over, and
    contexts with fewer, are left out.

    Raises:
        RequestError: a prompt whose question is not at its end, or no context has so many questions.
    """
    contexts: dict[str, list[Example]] = {}
    found: list[Example] = []
    most, task = 0, ""
    for example in examples:
        task = example.task
        if not example.question.strip():
            raise RequestError(
                f"Prompts of '{task}' have no question after the context (example {example.id}), so several cannot be "
                "asked of one; leave out --questions-per-context or the task."
            )
        waiting = contexts.setdefault(example.prompt.removesuffix(example.question), [])
        waiting.append(example)
        most = max(most, len(waiting))
        if len(waiting) == count:
            found.append(together(waiting))
            waiting.clear()
    if most and not found:
        raise RequestError(
            f"No context of '{task}' has {count} questions in this split, and {most} at most; ask for fewer with "
            "--questions-per-context, or leave out the task."
        )
    return found
