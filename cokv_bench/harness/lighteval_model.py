"""A custom model file of LightEval: a model that answers and scores from what an eviction method keeps.

`lighteval custom "pretrained=MODEL,method=snapkv,budget=128" THIS_FILE TASKS`: the name of the model is its arguments,
see `EvictionArguments`. Prompts, stop strings and the tokens of choices are those of LightEval's transformers model.
"""

from typing import Any

from lighteval.models.abstract_model import LightevalModel, ModelConfig
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.prompt_manager import PromptManager
from lighteval.tasks.requests import Doc
from lighteval.utils.cache_management import SampleCache
from tqdm import tqdm

from cokv_bench.errors import RequestError
from cokv_bench.harness.arguments import EvictionArguments


class EvictingModel(LightevalModel):
    """Contexts are prefilled, evicted and answered one at a time. LightEval finds the class by what it extends."""

    def __init__(self, config: ModelConfig) -> None:
        """Raises `RequestError`, see `EvictionArguments`."""
        self.config = config
        self._evicted = EvictionArguments.parse(config.model_name).load()
        self._chat = self.tokenizer.chat_template is not None
        self._prompts = PromptManager(self._chat, self.tokenizer, config.system_prompt)
        # LightEval asks for it. No answers are kept there: its keys know neither head files nor this package's version.
        self._cache = SampleCache(config)

    @property
    def tokenizer(self) -> Any:
        return self._evicted.model.text_tokenizer

    @property
    def add_special_tokens(self) -> bool:
        return True

    @property
    def max_length(self) -> int:
        return self._evicted.model.context

    def greedy_until(self, docs: list[Doc]) -> list[ModelResponse]:
        """Greedy answers. Raises `RequestError` where several are to be drawn, and see `EvictedModel.answer`."""
        return [self._answer(doc) for doc in tqdm(docs, desc="Answers", disable=self.disable_tqdm)]

    def loglikelihood(self, docs: list[Doc]) -> list[ModelResponse]:
        """The choices' log-probabilities. Raises `RequestError`, see `EvictedModel.score`."""
        return [self._score(doc) for doc in tqdm(docs, desc="Choices", disable=self.disable_tqdm)]

    def loglikelihood_rolling(self, docs: list[Doc]) -> list[ModelResponse]:
        """Raises `RequestError`: no context stands before a whole text."""
        raise RequestError("A task that scores whole texts has no context to evict from; leave it out.")

    def _answer(self, doc: Doc) -> ModelResponse:
        if doc.num_samples > 1:
            raise RequestError(
                f"The task '{doc.task_name}' draws {doc.num_samples} answers to each prompt, and this model answers "
                "greedily; use a metric of one answer."
            )
        prompt = self._prompts.prepare_prompt(doc)
        ids = self.tok_encode(prompt)
        # At least one token is generated; what is too long is cut from the left.
        context = ids[-(self.max_length - 1) :]
        room = self.max_length - len(context)
        until = [self.tokenizer.eos_token, *([] if self._chat else doc.stop_sequences or [])]
        new = self._evicted.answer(context, min(room, doc.generation_size or room), [each for each in until if each])
        text = self._evicted.model.text(new)
        for each in until:
            text = text.split(each)[0] if each else text
        cut = len(ids) - len(context)
        return ModelResponse(
            input=prompt, input_tokens=context, text=[text], output_tokens=[new], truncated_tokens_count=cut
        )

    def _score(self, doc: Doc) -> ModelResponse:
        prompt = self._prompts.prepare_prompt(doc)
        contexts, choices = self.tok_encode_pair(prompt, doc.choices, pairwise=True)
        ids, longest = contexts[0], max(map(len, choices))
        context = ids[-(self.max_length - longest) :]
        found = self._evicted.score(context, choices)
        return ModelResponse(
            input=prompt,
            input_tokens=context,
            output_tokens=choices,
            logprobs=[each.logprob for each in found],
            argmax_logits_eq_gold=[each.greedy for each in found],
            truncated_tokens_count=len(ids) - len(context),
        )
