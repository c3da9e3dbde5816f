"""The model `cokv-bench` of lm-evaluation-harness: its `hf` model, but for what is done with a prompt's cache.

Tokenisation, truncation, chat templates and stop strings are those of `hf`, whose class this one extends. Only the two
methods that run the network are others: both prefill the context, evict, and go on from what is kept.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from tqdm import tqdm

from cokv_bench.budget import written
from cokv_bench.errors import RequestError, quoted
from cokv_bench.harness.arguments import EvictionArguments

#: As `lm_eval --model` has it.
NAME = "cokv-bench"
# Arguments of `hf` about texts, which keep their meaning.
_OF_TEXTS = (
    "max_length",
    "add_bos_token",
    "prefix_token_id",
    "enable_thinking",
    "think_end_token",
    "chat_template_args",
)
# What `generate` ignores where it does not sample.
_OF_SAMPLES = ("do_sample", "temperature", "top_p", "top_k", "min_p", "typical_p")


@register_model(NAME)
class EvictingLM(HFLM):
    """See `EvictionArguments` for its arguments; those of `hf` about texts are taken too, such as max_length.

    Contexts are evicted one at a time, so a batch size is taken and makes no difference.
    """

    def __init__(
        self,
        *,
        device: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        **given: Any,
    ) -> None:
        """
        Raises:
            RequestError: see `EvictionArguments.load`, or the model has no tokenizer.
        """
        of_texts = {name: given.pop(name) for name in _OF_TEXTS if name in given}
        self._arguments = EvictionArguments.of({**given, "device": _there(device)})
        self._evicted = self._arguments.load()
        model = self._evicted.model
        longest = of_texts.setdefault("max_length", model.context)
        if type(longest) is not int or not 1 < longest <= model.context:
            raise RequestError(
                f"The model argument 'max_length' is {quoted(longest)}; it must be from 2 to the context of "
                f"'{model.name}', {model.context} tokens."
            )
        super().__init__(pretrained=model.network, tokenizer=model.text_tokenizer, batch_size=1, **of_texts)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Of whole texts, by the full cache alone.

        Raises:
            RequestError: with any other method: no context stands before such a text, so nothing can be evicted.
        """
        if self._evicted.budget is not None:
            raise RequestError(
                "A task of loglikelihood_rolling scores whole texts without a context, so no method has anything to "
                f"evict; leave it out, or run it with method=full instead of {self._arguments.method}."
            )
        return list(super().loglikelihood_rolling(requests, disable_tqdm))

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        alike: dict[tuple[int, ...], list[int]] = {}
        for number, (_, context, continuation) in enumerate(requests):
            if not 0 < len(continuation) <= self.max_length:
                raise RequestError(
                    f"A text of {len(continuation)} tokens cannot be scored; it must have from 1 to max_length, "
                    f"{self.max_length}."
                )
            # The last token is never fed back, and what is too long is cut from the left.
            kept = self.max_length + 1 - len(continuation)
            alike.setdefault(tuple(context[-kept:]), []).append(number)
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        for context, numbers in tqdm(alike.items(), desc="Contexts", disable=disable_tqdm):
            scores = self._evicted.score(context, [requests[number][2] for number in numbers])
            for number, found in zip(numbers, scores, strict=True):
                answers[number] = (found.logprob, found.greedy)
                text = requests[number][0]
                if text is not None:
                    self.cache_hook.add_partial("loglikelihood", text, answers[number])
        return answers

    def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **settings: Any) -> Tensor:
        """Context ids [1, tokens] with a greedy answer after them, [1, tokens + new]."""
        _check_greedy({name: value for name, value in settings.items() if name != "attention_mask"})
        ids = context[0].tolist()
        new = self._evicted.answer(ids, max_length - len(ids), [text for text in stop if text])
        return torch.tensor([[*ids, *new]])

    def get_model_info(self) -> dict[str, Any]:
        """What the results file tells of the model."""
        model = self._evicted.model
        return {
            "model_num_parameters": model.network.num_parameters(),
            "model_dtype": model.network.dtype,
            "model_revision": self._arguments.revision or "",
            "model_sha": model.fingerprint["weights"],
            "method": self._arguments.method,
            "budget": written(self._evicted.budget),
        }


def _there(device: str | None) -> str | None:
    """The device that is asked for; lm-eval asks for cuda:0 where nobody says, and then means a GPU if there is one."""
    return None if str(device).startswith("cuda") and not torch.cuda.is_available() else device


def _check_greedy(settings: Mapping[str, Any]) -> None:
    """Refuse whatever changes a greedy answer. Raises `RequestError`."""
    sampling = settings.get("do_sample")
    if sampling or (sampling is None and settings.get("temperature")):
        raise RequestError(
            "The model 'cokv-bench' answers greedily, and this task samples; add --gen_kwargs do_sample=False."
        )
    for name, value in settings.items():
        if name not in _OF_SAMPLES and value is not None:
            raise RequestError(
                f"The model 'cokv-bench' answers greedily and takes no generation argument '{name}' ({quoted(value)}); "
                "leave it out."
            )
