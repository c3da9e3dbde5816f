"""A task over rows in LongBench's schema: prompts, splits and scores."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import Example, Split, content_id, in_profile_split
from cokv_bench.tasks.longbench.rows import Row
from cokv_bench.tasks.longbench.scoring import bucket_of, score_columns
from cokv_bench.tasks.longbench.specs import Rules
from cokv_bench.tasks.metrics import best_score

_PLACE = re.compile(r"\{(context|input)\}")


def fill(template: str, context: str, input: str) -> str:
    """The prompt: each {context} and {input} of the template replaced once.

    Braces in the texts, and any others in the template, stay as they are.

    Raises:
        RequestError: the template has neither place.
    """
    if not _PLACE.search(template):
        raise RequestError(
            f"A prompt template must hold {{context}} or {{input}}; this one has neither: {template!r:.80}."
        )
    return _filled(template, context, input)


def tail(template: str, input: str) -> str:
    """What follows the context in a prompt, for `Example.question`; empty where the input stands before it."""
    before, _, after = template.partition("{context}")
    return "" if "{input}" in before or "{context}" in after else _filled(after, "", input)


def _filled(template: str, context: str, input: str) -> str:
    texts = {"context": context, "input": input}
    return _PLACE.sub(lambda place: texts[place[1]], template)


class RowTask:
    """The `Task` that rules and rows make; the rows are read anew by each call of `examples`."""

    def __init__(
        self,
        name: str,
        rules: Rules,
        load: Callable[[], list[Row]],
        *,
        seed: int,
        profile_share: float,
        limit: int | None,
    ) -> None:
        if not 0 <= profile_share <= 1:
            raise RequestError(f"The profile share of {name} must lie in 0..1, not {profile_share}.")
        if limit is not None and limit < 1:
            raise RequestError(f"The limit of {name} must be at least 1 example, not {limit}.")
        self.name = name
        self.rules = rules
        self.metric = rules.metric
        self.version = rules.version
        self._load = load
        self._seed = seed
        self._share = profile_share
        self._limit = limit

    def examples(self, split: Split) -> list[Example]:
        """The first `limit` examples of a split, in file order; of equal rows the first counts.

        Raises:
            RequestError: the rows cannot be read, or cannot be scored.
        """
        found: dict[str, Example] = {}
        for row in self._load():
            example = self._example(row)
            if example.id not in found and self._belongs(example.id, split):
                found[example.id] = example
                if len(found) == self._limit:
                    break
        return list(found.values())

    def score(self, example: Example, prediction: str) -> dict[str, float]:
        """ "score" and one column for each extra metric, in [0, 1]."""
        return score_columns(self.rules, prediction, example.answers, example.all_classes)

    def _belongs(self, example_id: str, split: Split) -> bool:
        if split == "all":
            return True
        return in_profile_split(example_id, seed=self._seed, share=self._share) == (split == "profile")

    def _example(self, row: Row) -> Example:
        rules = self.rules
        try:
            # Scoring nothing finds answers that the metric cannot read before a model has worked for them.
            if row.answers:
                best_score(rules.metric, "", row.answers, row.all_classes)
        except RequestError as error:
            raise RequestError(f"{row.place}: {error}") from error
        fields: Mapping[str, Any] = {"row": row.index}
        if row.length is not None:
            fields = {**fields, "length": row.length, "bucket": bucket_of(row.length)}
        return Example(
            # Of the texts alone, so that a row of trec and the same row of trec_e are one example.
            id=content_id(row.input, row.context),
            task=self.name,
            prompt=fill(rules.template, row.context, row.input),
            answers=row.answers,
            max_new_tokens=rules.max_new_tokens,
            chat=rules.chat,
            truncate=True,
            stop_at_newline=rules.stop_at_newline,
            all_classes=row.all_classes,
            question=tail(rules.template, row.input),
            fields=fields,
        )
