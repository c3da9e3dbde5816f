"""What a harness is told of a model and its eviction method, as `name=value` pairs."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from cokv_bench.errors import RequestError, quoted, unknown
from cokv_bench.files import at_home
from cokv_bench.harness.evicted import EvictedModel
from cokv_bench.models.spec import ModelSpec
from cokv_bench.option import budgets
from cokv_bench.policies import find_method
from cokv_bench.policies.names import FULL
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.methods import MethodSettings
from cokv_bench.runs.sources import refuse_unread, static_budgets

# The one task that head files are asked for: a harness names none of ours.
_TASK = "harness"
_WRITTEN = {"true": True, "false": False}


@dataclass(frozen=True)
class EvictionArguments:
    """A model, a method and its budget.

    Methods have their published settings; options in a method's name change them, as in "snapkv:kernel=11".

    Attributes:
        pretrained: embedded name, model folder, GGUF file or hub id.
        method: as `cokv-bench eval --method` takes it.
        budget: tokens per KV head on average, window included, or a share of each context such as "25%"; `full` has
            none.
        heads: a file about heads, the folder of a profile or search, or one on the hub; default what ships for the
            model.
        question_tokens: how many of the last tokens of a context are read after eviction, as a question that the method
            has not seen.
        dtype: "auto" for the checkpoint's, as lm-eval's own `hf` model has it.
        device, revision, trust_remote_code: as in `load_model`.
    """

    pretrained: str = ModelSpec.name
    method: str = "snapkv"
    budget: int | str = 128
    heads: str | None = None
    question_tokens: int = 0
    dtype: str = "auto"
    device: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """From the pairs. Raises `RequestError` for an unknown name or a value that is none."""
        known = {field.name: field for field in fields(cls)}
        for name in given:
            if name not in known:
                raise unknown("model argument", name, known)
        found = cls(**given)
        for name in ("pretrained", "method", "heads", "dtype", "device", "revision"):
            value = getattr(found, name)
            if not isinstance(value, str) and value is not known[name].default:
                raise RequestError(f"The model argument '{name}' is {quoted(value)}; expected a name.")
        if not isinstance(found.trust_remote_code, bool):
            raise RequestError(
                f"The model argument 'trust_remote_code' is {quoted(found.trust_remote_code)}; expected true or false."
            )
        if type(found.question_tokens) is not int or found.question_tokens < 0:
            raise RequestError(
                f"The model argument 'question_tokens' is {quoted(found.question_tokens)}; expected a whole number, "
                "0 or more."
            )
        return found

    @classmethod
    def parse(cls, text: str) -> Self:
        """From a text such as "pretrained=MODEL,method=snapkv,budget=128". Raises `RequestError` as `of` does."""
        pairs = (pair.partition("=") for pair in text.split(",") if pair)
        return cls.of(
            {name: _WRITTEN.get(value.lower(), int(value) if value.isdecimal() else value) for name, _, value in pairs}
        )

    def load(self) -> EvictedModel:
        """The model with its method.

        Raises:
            RequestError: see `load_model`, `find_method` and `static_budgets`; all but the model's own are raised
                before it is loaded.
        """
        wanted = budgets(str(self.budget), "budget")
        if len(wanted) != 1:
            raise RequestError(f"The model argument 'budget' is {quoted(self.budget)}; name one budget.")
        budget = None if self.method == FULL else wanted[0]
        sources = HeadSources(() if self.heads is None else (at_home(Path(self.heads)),))
        MethodSettings().check([self.method], wanted if budget is not None else [])
        refuse_unread([self.method], sources)
        model = ModelSpec(
            self.pretrained,
            revision=self.revision,
            dtype=self.dtype,
            device=self.device,
            trust_remote_code=self.trust_remote_code,
        ).load()
        heads = None
        if find_method(self.method).rule is not None:
            heads = static_budgets(
                self.method, model, wanted, [_TASK], window=None, published_rounding=False, sources=sources
            )[_TASK]
        found = EvictedModel(model, MethodSettings().policy(self.method, heads), budget, self.question_tokens)
        found.check()
        return found
