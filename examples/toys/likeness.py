"""A toy utility: how alike the greedy answer and the reference are, letter by letter."""

from difflib import SequenceMatcher

from cokv_bench.game.utilities import PromptUtility, register_utility
from cokv_bench.kvcache import decode


def measure(case, selections):
    """One number in [0, 1] per selection; higher is better."""
    example = case.example
    answers = decode(
        case.model,
        case.prompt,
        selections,
        max_new_tokens=example.max_new_tokens,
        question=case.question,
        stop_at_newline=example.stop_at_newline,
        memory=case.memory,
    )
    return [
        max(SequenceMatcher(None, reference, answer.text).ratio() for reference in example.answers)
        for answer in answers
    ]


register_utility(PromptUtility("likeness", "letters shared with the reference answer, in order (a toy)", measure))
