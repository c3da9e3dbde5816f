"""The sentence for a split that holds nothing."""

from collections.abc import Iterable

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import Split, Task, documents_of


def no_examples(split: Split, tasks: Iterable[Task]) -> RequestError:
    """An error for tasks without examples in a split, that says how many documents their rows come from.

    Raises:
        RequestError: the rows cannot be read.
    """
    tasks = list(tasks)
    names = [task.name for task in tasks]
    documents = set(documents_of(tasks).values())
    shown = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    if not documents:
        return RequestError(f"'{shown:.80}' has no examples in the split '{split}'; name another split, or more data.")
    return RequestError(
        f"'{shown:.80}' has no examples in the split '{split}': all rows of a document (the context) are in one "
        f"split, and none of the {len(documents)} documents falls to this one; choose "
        "another --split or --seed, or add documents."
    )
