"""Decoding the rows of several prompts as one batch on a CPU.

A step reads all weights whatever the number of its rows, and with a few rows it takes hardly longer than with one. The
rows of other prompts therefore take their steps beside a prompt's own; only attention looks at each prompt alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from cokv_bench.kvcache.answers import Answers, Ending, most_likely
from cokv_bench.kvcache.batching import free_memory
from cokv_bench.kvcache.decode import Generation, check
from cokv_bench.kvcache.decoding import Decoding
from cokv_bench.kvcache.others import RowCache
from cokv_bench.kvcache.selection import distinct
from cokv_bench.kvcache.shared import SharedCache
from cokv_bench.models.attention import AttendingLayer
from cokv_bench.models.form import Form
from cokv_bench.models.model import Model
from cokv_bench.models.rotary import by_length

#: Rows of a step. Measured on a model of 135M parameters, 48 take half as long again as six; more rows are each hardly
#: cheaper, and their prompts take memory.
ROWS = 48
# Of the memory that is free at first, what prompts on their way may take.
_SHARE = 0.25


@dataclass(eq=False)
class _Group:
    """The rows of one request.

    Attributes:
        order: of each selection of the request, the number of its row; selections that keep the same have one.
        nbytes: of the prompt's keys and values.
    """

    answers: Answers
    order: list[int]
    nbytes: int


class Joint:
    """Rows of several prompts on their way."""

    def __init__(self, model: Model, memory: int | None = None) -> None:
        """`memory`: bytes that the prompts may take; default a quarter of what is free at the first request."""
        self._model, self._memory = model, memory
        self._groups: list[_Group] = []
        self._cache: Cache | None = None

    @staticmethod
    def serves(model: Model, request: Decoding) -> bool:
        """Whether a request can join others: rows of a number that profits, of a model whose layers are called here.

        Rotary factors that depend on the length of a text differ between rows, and a request with a limit of its own
        keeps it alone.
        """
        return (
            model.verdict.lean
            and not by_length(model.config)
            and request.memory is None
            and 0 < len(request.selections) <= ROWS
            and not request.prompt.others
            and all(parameter.device.type == "cpu" for parameter in model.network.parameters())
        )

    @property
    def rows(self) -> int:
        return sum(len(group.answers.alive) for group in self._groups)

    @property
    def has_room(self) -> bool:
        """Whether it is worth reading another prompt now: another request like those on their way would fit."""
        groups = self._groups
        return not groups or self._fits(max(len(each.order) for each in groups), max(each.nbytes for each in groups))

    def _fits(self, rows: int, nbytes: int) -> bool:
        if not self._groups:
            return True
        assert self._memory is not None
        return self.rows + rows <= ROWS and sum(group.nbytes for group in self._groups) + nbytes <= self._memory

    @torch.inference_mode()
    def admit(self, request: Decoding) -> object | None:
        """Let the rows of a request join; what it is known by from then on, None where there is no room now.

        Raises:
            RequestError: what `decode` refuses.
        """
        model, prompt, question = self._model, request.prompt, torch.as_tensor(request.question, dtype=torch.long)
        if self._memory is None:
            self._memory = int(_SHARE * free_memory(model.device))
        if not self._fits(len(request.selections), prompt.nbytes):
            return None
        check(model, prompt, request.selections, question.numel(), request.max_new_tokens)
        selections, order = distinct(request.selections)
        # The last token is never fed back, so it needs no place.
        cache = SharedCache(prompt, selections, max(1, question.numel() + request.max_new_tokens - 1))
        ending = Ending.of(model, request.max_new_tokens, request.stop_at_newline)
        answers = Answers(model, prompt, cache, len(selections), question, ending)
        group = _Group(answers, order, prompt.nbytes)
        self._groups.append(group)
        self._hear([group])
        return group

    @torch.inference_mode()
    def advance(self) -> list[tuple[object, list[Generation]]]:
        """Take steps until a request has ended; those that have, with an answer for each selection.

        Raises:
            RequestError: logits that are not finite.
        """
        while not (ended := [group for group in self._groups if not group.answers.alive]):
            self._step()
        self._groups = [group for group in self._groups if group.answers.alive]
        return [(group, self._generations(group)) for group in ended]

    def _step(self) -> None:
        going = [group.answers for group in self._groups]
        if self._cache is None:
            self._cache = _joined([answers.cache for answers in going])
        ids = torch.tensor([token for answers in going for token in answers.coming])
        positions = torch.tensor([answers.position for answers in going for _ in answers.alive])
        states = self._model.read(ids[:, None], positions[:, None], self._cache, [int(positions.max()) + 1])[:, -1]
        chosen = iter(most_likely(self._model, states, len(ids)))
        for answers in going:
            answers.coming = [next(chosen) for _ in answers.alive]
            answers.position += 1
        self._hear(self._groups)

    def _hear(self, groups: Sequence[_Group]) -> None:
        """Add the tokens that come next to the answers."""
        for group in groups:
            group.answers.hear()
        # Each layer of it knows how many rows a prompt has.
        self._cache = None

    def _generations(self, group: _Group) -> list[Generation]:
        found = [Generation(ids, self._model.text(ids)) for ids in group.answers.ids]
        return [found[number] for number in group.order]


def _joined(caches: Sequence[RowCache]) -> Cache:
    """A cache whose rows are those of several, in order."""
    return Cache(layers=[_JointLayer(layers) for layers in zip(*(cache.evicted for cache in caches), strict=True)])


class _JointLayer(AttendingLayer):
    """A layer of several caches, each of which attends for its own rows."""

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self._layers, self._rows = layers, [len(layer.own.keys) for layer in layers]

    def get_seq_length(self) -> int:
        # Rows differ in it, and layers that are called one by one do not ask.
        return 0

    def attend(self, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        parts = zip(self._layers, *(part.split(self._rows) for part in (query, key, value)), strict=True)
        return torch.cat([layer.attend(*part, form) for layer, *part in parts])
