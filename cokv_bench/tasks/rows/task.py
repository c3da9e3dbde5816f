"""A task over rows in LongBench's schema: prompts, splits and scores."""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import Example, Split, content_id, side_of
from cokv_bench.tasks.metrics import METRICS, asks_for_all, best_score
from cokv_bench.tasks.questions import per_context
from cokv_bench.tasks.rows.rows import Row, row_ids
from cokv_bench.tasks.rows.rules import Rules, bucket_of, score_columns

_PLACE = re.compile(r"\{(context|input)\}")


def fill(template: str, context: str, input: str, places: Mapping[str, str] | None = None) -> str:
    """The prompt: each {context} and {input} of the template replaced once, and each of some further places.

    Braces in the texts, and any others in the template, stay as they are.

    Raises:
        RequestError: the template has neither place.
    """
    if not _PLACE.search(template):
        raise RequestError(
            f"A prompt template must hold {{context}} or {{input}}; this one has neither: {template!r:.60}."
        )
    return _filled(template, {**(places or {}), "context": context, "input": input})


def tail(template: str, input: str, places: Mapping[str, str] | None = None) -> str:
    """What follows the context in a prompt, for `Example.question`; empty where the input stands before it."""
    before, _, after = template.partition("{context}")
    return "" if "{input}" in before or "{context}" in after else _filled(after, {**(places or {}), "input": input})


def _filled(template: str, texts: Mapping[str, str]) -> str:
    names = "|".join(map(re.escape, texts))
    return re.sub(rf"\{{({names})\}}", lambda place: texts[place[1]], template)


class RowTask:
    """The `Task` that rules and rows make; the rows are read again by each call of `examples`.

    Attributes:
        split_rule: how rows are dealt to the splits, for the configuration of what is made from them. Files without a
            rule are of versions that dealt the rows of a document one by one.
    """

    split_rule = "document"

    @property
    def rules_digest(self) -> str | None:
        """Of the rules, for the configuration; None where a version moves with them."""
        return self.rules.digest

    def __init__(
        self,
        name: str,
        rules: Rules,
        load: Callable[[], list[Row]],
        *,
        seed: int,
        profile_share: float,
        limit: int | None,
        questions: int = 1,
    ) -> None:
        if not 0 <= profile_share <= 1:
            raise RequestError(f"The profile share of {name} must lie in 0..1, not {profile_share}.")
        if limit is not None and limit < 1:
            raise RequestError(f"The limit of {name} must be at least 1 example, not {limit}.")
        for metric in (rules.metric, *rules.extra_metrics):
            # A library that is missing must not end a run at its first score.
            METRICS.get(metric)
        self.name = name
        self.rules = rules
        self.metric = rules.metric
        self.version = rules.version
        self._load = load
        self._seed = seed
        self._share = profile_share
        self._limit = limit
        self._questions = questions

    def examples(self, split: Split) -> list[Example]:
        """The first `limit` examples of a split, in file order; rows equal in all are one, see `row_ids`.

        Raises:
            RequestError: the rows cannot be read, or cannot be scored; see also `per_context`.
        """
        found = self._of_split(split)
        return list(islice(found if self._questions == 1 else per_context(found, self._questions), self._limit))

    def documents(self) -> dict[str, str]:
        """Id -> document of all rows, whatever the limit; ids of earlier versions, without answers, are among them.

        Raises:
            RequestError: the rows cannot be read.
        """
        rows = self._load()
        plain = {content_id(row.input, row.context): row.document for row in rows}
        return plain | {name: row.document for row, name in zip(rows, row_ids(rows), strict=True) if name is not None}

    def score(self, example: Example, prediction: str) -> dict[str, float]:
        """ "score" and one column for each extra metric, in [0, 1]."""
        return score_columns(self.rules, prediction, example.answers, example.all_classes)

    def _of_split(self, split: Split) -> Iterator[Example]:
        rows = self._load()
        for row, name in zip(rows, row_ids(rows), strict=True):
            if name is not None and self._belongs(row.document, split):
                yield self._example(row, name)

    def _belongs(self, document: str, split: Split) -> bool:
        return split == "all" or side_of(document, seed=self._seed, profile_share=self._share) == split

    def _example(self, row: Row, name: str) -> Example:
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
            id=name,
            task=self.name,
            prompt=fill(rules.template, row.context, row.input, row.places),
            answers=row.answers,
            max_new_tokens=rules.max_new_tokens if row.max_new_tokens is None else row.max_new_tokens,
            chat=rules.chat,
            truncate=rules.truncate,
            stop_at_newline=rules.stop_at_newline,
            all_classes=row.all_classes,
            question=tail(rules.template, row.input, row.places),
            begun=row.begun,
            joint=asks_for_all(rules.metric),
            fields=fields,
            document=row.document,
        )
