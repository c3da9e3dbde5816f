"""A RULER subtask as a task."""

from collections.abc import Callable, Sequence

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import Example, Split, content_id
from cokv_bench.tasks.needle.haystack import Haystack, Tokenizer, read_documents, side
from cokv_bench.tasks.ruler.fit import most_units
from cokv_bench.tasks.ruler.material import Material
from cokv_bench.tasks.ruler.score import string_match_all
from cokv_bench.tasks.ruler.subtasks import PREFIX, SUBTASKS, expand

_SPLITS: tuple[Split, ...] = ("profile", "test")
_EXAMPLES = 10


class RulerTask:
    """Examples of one subtask at every length.

    An example's `answers` are all the references, and the score is the share of them that occurs in the
    prediction. Where one reference is needed (the log-likelihood of an answer), it is the first of them.

    Profile and test share no key, value, variable, word or essay; the sentences of noise are the same five. The
    examples of a length do not depend on what other lengths are asked for.

    Args:
        subtask: a name of `SUBTASKS`.
        tokenizer: counts the essays' tokens.
        encode_length: number of tokens of the final prompt, chat template included; a prompt has at most `length`
            and lacks about one unit of its context at most (a sentence, a needle, a word with its repetitions).
        lengths: prompt lengths in tokens.
        examples: examples a length and split; default 10 (published runs take 500).
        seed: decides all draws.

    Raises:
        RequestError: an unknown subtask or a bad number; `examples` raises it for a length that the shortest
            prompt exceeds.
    """

    metric = "string_match_all"
    version = 1

    def __init__(
        self,
        subtask: str,
        tokenizer: Tokenizer,
        *,
        encode_length: Callable[[str], int],
        lengths: Sequence[int] = (1024,),
        examples: int | None = None,
        seed: int = 0,
    ) -> None:
        (self._subtask,) = expand(PREFIX + subtask)
        self.name = PREFIX + subtask
        if not lengths:
            raise RequestError(f"The task '{self.name}' has no length; give at least one, such as 1024.")
        self._count = _EXAMPLES if examples is None else examples
        for what, value in (("tokens a prompt", min(lengths)), ("examples", self._count)):
            if value < 1:
                raise RequestError(f"The task '{self.name}' was asked for {value} {what}; give at least 1.")
        self._encode_length = encode_length
        self._lengths = tuple(dict.fromkeys(lengths))
        self._seed = seed
        documents = read_documents()
        self._essays = {split: Haystack(side(documents, split), tokenizer) for split in _SPLITS}
        self._made: dict[Split, list[Example]] = {}

    def examples(self, split: Split) -> list[Example]:
        """The examples by length; "all" is "profile" followed by "test"."""
        if split == "all":
            return [example for each in _SPLITS for example in self.examples(each)]
        if split not in self._made:
            self._made[split] = [
                self._example(split, length, k) for length in self._lengths for k in range(self._count)
            ]
        return list(self._made[split])

    def score(self, example: Example, prediction: str) -> dict[str, float]:
        """ "score": the share of the example's answers that occur in the prediction."""
        return {"score": string_match_all(prediction, example.answers)}

    def _example(self, split: Split, length: int, k: int) -> Example:
        subtask = SUBTASKS[self._subtask]
        seed = f"{self._subtask} {self._seed} {split} {length} {k}"
        draft = subtask.draft(Material(split, length, seed, self._essays[split]))

        def tokens(units: int) -> int:
            return self._encode_length(draft.prompt(units))

        units = most_units(length, tokens)
        if units < 0:
            raise RequestError(
                f"Length {length} is too short for the task '{self.name}', whose shortest prompt takes {tokens(0)} "
                "tokens with the chat template; ask for a greater length."
            )
        prompt = draft.prompt(units)
        return Example(
            id=content_id(prompt),
            task=self.name,
            prompt=prompt,
            answers=draft.answers,
            max_new_tokens=subtask.max_new_tokens,
            fields={"length": length, "subtask": self._subtask},
        )
