"""A RULER subtask as a task."""

from collections.abc import Callable, Mapping, Sequence

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import Example, Split, content_id
from cokv_bench.tasks.made.fit import most_units
from cokv_bench.tasks.made.haystack import Tokenizer
from cokv_bench.tasks.made.task import DEFAULT_EXAMPLES, MadeTask
from cokv_bench.tasks.metrics import asks_for_all, best_score
from cokv_bench.tasks.questions import together
from cokv_bench.tasks.ruler.draft import Draft
from cokv_bench.tasks.ruler.material import Material
from cokv_bench.tasks.ruler.qa import Documents
from cokv_bench.tasks.ruler.subtasks import PREFIX, expand, subtask


class RulerTask(MadeTask):
    """Examples of one subtask at every length.

    An example's `answers` are all the references. The score is the share of them that occurs in the prediction, or
    for questions (qa_1, qa_2) whether one of them does. Where one reference is needed (the log-likelihood of an
    answer), it is the first of them.

    Profile and test share no key, value, variable, word, essay, question or paragraph; report shares no word (and so no
    key of words), essay, question or paragraph with either and no value with profile, and draws its numbers, UUIDs and
    variables for itself. The sentences of noise are the same five.

    Args:
        name: a subtask, such as "vt".
        tokenizer: counts the essays' tokens, and those of a worked example.
        encode_length: number of tokens of the final prompt, chat template included; a prompt has at most `length`
            and lacks about one unit of its context at most (a sentence, a needle, a paragraph, a word with its
            repetitions).
        lengths: prompt lengths in tokens.
        examples: examples a length and split; default 10 (published runs take 500).
        seed: decides all draws.
        qa: paragraphs and questions by subtask, as `read_qa` gives them.
        questions: of each context, for the subtasks that have `several`. A context then has needles or chains for each.

    Raises:
        RequestError: an unknown subtask, one whose file is not given, or a bad number; `examples` raises it for a
            length that the shortest prompt exceeds, or that the file's paragraphs do not fill.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Tokenizer,
        *,
        encode_length: Callable[[str], int],
        lengths: Sequence[int] = (1024,),
        examples: int | None = None,
        seed: int = 0,
        qa: Mapping[str, Documents] | None = None,
        questions: int = 1,
    ) -> None:
        self.name = PREFIX + name
        (self._name,) = expand(self.name, qa or {})
        self._subtask = subtask(self._name, qa or {})
        self.metric, self.version = self._subtask.metric, self._subtask.version
        self._questions = questions
        self._count = DEFAULT_EXAMPLES if examples is None else examples
        super().__init__(
            tokenizer,
            encode_length=encode_length,
            lengths=lengths,
            shortest=1,
            counts={"examples": self._count},
            folder=None,
            seed=seed,
        )

    def score(self, example: Example, prediction: str) -> dict[str, float]:
        """ "score": the metric of the subtask."""
        return {"score": best_score(self.metric, prediction, example.answers)}

    def _make(self, split: Split, length: int) -> list[Example]:
        return [self._example(split, length, k) for k in range(self._count)]

    def _draft(self, split: Split, length: int, k: int) -> Draft:
        series = f"{self._name} {self._seed} {split}"
        seed, haystack = f"{series} {length} {k}", self._haystacks[split]
        return self._subtask.draft(Material(split, length, seed, haystack, k, series, self._questions))

    def _tokens(self, draft: Draft, units: int) -> int:
        return self._encode_length(draft.prompt(units))

    def _example(self, split: Split, length: int, k: int) -> Example:
        draft = self._draft(split, length, k)
        units = most_units(length, lambda units: self._tokens(draft, units))
        if units < 0:
            # The most and the fewest over the examples, so that none refuses the length that a message names.
            needs = max(self._tokens(self._draft(split, length, other), 0) for other in range(self._count))
            raise RequestError(
                f"Length {length} is too short for the task '{self.name}', whose shortest prompts take up to {needs} "
                "tokens with the chat template; ask for a greater length."
            )
        if draft.available(units + 1) <= units and self._tokens(draft, units) < length:
            fills = min(self._tokens(self._draft(split, length, other), length) for other in range(self._count))
            raise RequestError(
                f"Length {length} is more than the question file of the task '{self.name}' can fill, since its "
                f"paragraphs for the {split} split make prompts of {fills} tokens and are not repeated; ask for at "
                f"most {fills} or give a larger file with --ruler-qa."
            )
        context = draft.context(units)
        examples = [
            Example(
                id=content_id(context + asked.end),
                task=self.name,
                prompt=context + asked.end,
                answers=asked.answers,
                max_new_tokens=self._subtask.max_new_tokens,
                question=asked.end,
                fields={"length": length, "subtask": self._name},
                document=content_id(*draft.source) if draft.source else "",
                joint=asks_for_all(self.metric),
            )
            for asked in draft.questions
        ]
        return together(examples)
