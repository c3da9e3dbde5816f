"""Evaluating one prompt: prefilled once, every method and budget decoded from it as one batch."""

import time
from dataclasses import dataclass
from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.kvcache import Prompt, decode, prefill
from cokv_bench.models import Model
from cokv_bench.runs.plan import Part, Variant
from cokv_bench.tasks.prompts import Encoded


@dataclass(frozen=True)
class Answer:
    """What one variant answered on one example, and what that took; not yet scored.

    Attributes:
        measured: the columns of the record that the evaluation knows.
    """

    part: int
    variant: Variant
    text: str
    measured: dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """A job with its token ids, ready to run on any model of the kind that it was planned for.

    Attributes:
        encoded: ids of the prompt that all parts share.
        parts: what is evaluated; their answers end alike.
        memory: bytes that the prompt and what its rows generate may take; None for `decode`'s default.
    """

    encoded: Encoded
    parts: tuple[Part, ...]
    window: int
    memory: int | None = None

    def __call__(self, model: Model) -> list[Answer]:
        """Answers of all variants of all parts.

        Raises:
            RequestError: the prompt alone exceeds the memory.
        """
        started = time.perf_counter()
        prompt = prefill(
            model,
            self.encoded.prompt,
            window=self.window,
            accumulated_attention=any(
                v.policy.needs_accumulated_attention for part in self.parts for v in part.variants
            ),
            room=len(self.encoded.question),
        )
        prefilled = time.perf_counter()
        cells = [(index, variant) for index, part in enumerate(self.parts) for variant in part.variants]
        choices = [variant.policy.select(prompt, variant.budget) for _, variant in cells]
        example = self.parts[0].example
        answers = decode(
            model,
            prompt,
            choices,
            max_new_tokens=example.max_new_tokens,
            question=self.encoded.question,
            stop_at_newline=example.stop_at_newline,
            memory=self._left(prompt),
        )
        decoded = time.perf_counter()
        seconds = {
            "prefill_seconds": round(prefilled - started, 4),
            # All variants decode as one batch, so this is the time of the batch, the same in each of its records.
            "decode_seconds": round(decoded - prefilled, 4),
        }
        return [
            Answer(
                index,
                variant,
                answer.text,
                {
                    "prompt_tokens": prompt.tokens,
                    "question_tokens": len(self.encoded.question),
                    "new_tokens": len(answer.token_ids),
                    "kept_tokens": choice.total,
                    "kv_bytes": choice.total * model.bytes_per_token,
                    **seconds,
                },
            )
            for (index, variant), choice, answer in zip(cells, choices, answers, strict=True)
        ]

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
