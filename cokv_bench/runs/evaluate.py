"""Evaluating one prompt: prefilled once, every method and budget answers or is measured from it as one batch."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cokv_bench.budget import tokens_of
from cokv_bench.errors import RequestError
from cokv_bench.game.utilities import Case, PromptUtility
from cokv_bench.kvcache import Prompt, Selection, prefill
from cokv_bench.kvcache.decoding import Decoding, Work, finish
from cokv_bench.kvcache.prefill import signals
from cokv_bench.models import Model
from cokv_bench.policies.drafts import prepare
from cokv_bench.runs.plan import Part, Variant
from cokv_bench.tasks import Example, Task
from cokv_bench.tasks.prompts import Encoded


@dataclass(frozen=True)
class Answer:
    """What one variant answered on one example, not yet scored, or what a utility says of it; and what that took.

    Attributes:
        texts: an answer per question of the context; empty where a utility was measured.
        values: of the utility, likewise; empty where there are answers.
        measured: the columns of the record that the evaluation knows.
    """

    part: int
    variant: Variant
    texts: tuple[str, ...]
    values: tuple[float, ...]
    measured: dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """A job with its token ids, ready to run on any model of the kind that it was planned for.

    Attributes:
        encoded: ids of the prompt that all parts share.
        parts: what is evaluated; their answers end alike.
        memory: bytes that the prompt and what its rows generate may take; None for `decode`'s default.
        utility: what is measured in place of answers; None for answers.
        tasks: of the parts, where a utility is measured.
    """

    encoded: Encoded
    parts: tuple[Part, ...]
    window: int
    memory: int | None = None
    utility: PromptUtility | None = None
    tasks: tuple[Task, ...] = ()

    def __call__(self, model: Model) -> list[Answer]:
        """Answers or values of all variants of all parts, decoded beside no other prompt's.

        Raises:
            RequestError: the prompt alone exceeds the memory, or the utility cannot be measured on an example.
        """
        return finish(model, self.work(model))

    def work(self, model: Model) -> Work[list[Answer]]:
        """The same, as work that leaves decoding to others and keeps no prompt while it waits for them."""
        started = time.perf_counter()
        prompt = prefill(
            model,
            self.encoded.prompt,
            window=self.window,
            **signals(frozenset().union(*(v.policy.needs for part in self.parts for v in part.variants))),
            question=self.encoded.question,
        )
        prefilled = time.perf_counter()
        cells = [(index, variant) for index, part in enumerate(self.parts) for variant in part.variants]
        asked = [(variant.policy, tokens_of(variant.budget, prompt.tokens)) for _, variant in cells]
        prepare(prompt, asked)
        choices = [policy.select(prompt, budget) for policy, budget in asked]
        kept, tokens = [choice.total for choice in choices], prompt.tokens
        others = {"other_bytes": prompt.others.nbytes} if prompt.others else {}
        texts: list[tuple[str, ...]] = [()] * len(cells)
        values: list[tuple[float, ...]] = [()] * len(cells)
        new = [0] * len(cells)
        if self.utility is None:
            questions = self._questions(self.parts[0].example)
            requests = [self._decoding(prompt, choices, *each) for each in questions[::-1]]
            # So that nothing here holds the prompt while its last answers are decoded.
            del prompt, choices
            while requests:
                answers = yield requests.pop()
                texts = [(*before, answer.text) for before, answer in zip(texts, answers, strict=True)]
                new = [before + len(answer.token_ids) for before, answer in zip(new, answers, strict=True)]
        else:
            values = self._values(model, prompt, choices)
        decoded = time.perf_counter()
        seconds = {
            "prefill_seconds": round(prefilled - started, 4),
            # All variants decode as one batch, so this is the time of the batch, the same in each of its records.
            # Beside other prompts' rows it is the time until answers are there, waiting for room included.
            "decode_seconds": round(decoded - prefilled, 4),
        }
        return [
            Answer(
                index,
                variant,
                of_texts,
                of_values,
                {
                    "prompt_tokens": tokens,
                    "question_tokens": len(self.encoded.question),
                    "new_tokens": new_tokens,
                    "kept_tokens": total,
                    "kv_bytes": total * model.bytes_per_token,
                    **others,
                    **seconds,
                },
            )
            for (index, variant), total, of_texts, of_values, new_tokens in zip(
                cells, kept, texts, values, new, strict=True
            )
        ]

    def _questions(self, example: Example) -> list[tuple[Example, list[int]]]:
        """The questions of an example's context with the ids that follow the prompt."""
        ids = (self.encoded.question, *self.encoded.later)
        return list(zip((example, *example.later), ids, strict=True))

    def _decoding(
        self, prompt: Prompt, choices: Sequence[Selection], example: Example, question: Sequence[int]
    ) -> Decoding:
        """Answers to a question for each choice; all parts share the limits of the first one's examples."""
        return Decoding(
            prompt,
            choices,
            example.max_new_tokens,
            question,
            example.stop_at_newline,
            self._left(prompt),
        )

    def _values(self, model: Model, prompt: Prompt, choices: Sequence[Selection]) -> list[tuple[float, ...]]:
        """The utility of each choice per question; parts have answers of their own, so each is a batch."""
        assert self.utility is not None
        rest, found = list(choices), list[tuple[float, ...]]()
        for part, task in zip(self.parts, self.tasks, strict=True):
            mine, rest = rest[: len(part.variants)], rest[len(part.variants) :]
            questions = self._questions(part.example)
            cases = [Case(model, task, each, prompt, self._left(prompt), tuple(ids)) for each, ids in questions]
            found += zip(*(self.utility.values(case, mine) for case in cases), strict=True)
        return found

    def _left(self, prompt: Prompt) -> int | None:
        """Bytes that the rows may take, None for no limit of the user's."""
        if self.memory is None:
            return None
        if self.memory <= prompt.nbytes:
            raise RequestError(
                f"A prompt of {prompt.tokens} tokens takes {prompt.nbytes / 2**30:.2f} GiB, and the memory limit for "
                f"prompt and rows together is {self.memory / 2**30:.2f}; raise it, or cut prompts with --max-length."
            )
        return self.memory - prompt.nbytes
