"""Needles: values under keys, hidden in noise, in essays or among other needles."""

from dataclasses import dataclass
from typing import Literal

from cokv_bench.tasks.ruler.draft import Asked, Draft
from cokv_bench.tasks.ruler.material import Different, Material, noise


@dataclass(frozen=True)
class Niah:
    """One kind of needle task.

    Attributes:
        haystack: what the needles are hidden in.
        key: a key is two words with a hyphen, or a UUID.
        value: a value is a number of seven digits, or a UUID.
        keys: keys in the text, the asked ones included; a haystack of needles adds its own.
        values: values of each key.
        asked: keys that the question asks for.
    """

    haystack: Literal["noise", "essays", "needles"]
    key: Literal["words", "uuid"] = "words"
    value: Literal["number", "uuid"] = "number"
    keys: int = 1
    values: int = 1
    asked: int = 1

    def __call__(self, material: Material) -> Draft:
        """The draft of an example; a unit of context is a sentence, a word of the essays, or a needle."""
        keys = material.pairs() if self.key == "words" else material.uuids("key")
        values = material.numbers(7) if self.value == "number" else material.uuids("value")
        what = "number" if self.value == "number" else "UUID"
        # Each question has keys of its own.
        hidden = keys.first(max(self.keys, self.asked * material.questions))
        count = len(hidden) * self.values
        owners = [key for key in hidden for _ in range(self.values)]
        needles = [_needle(what, *pair) for pair in zip(owners, values.first(count), strict=True)]
        stretch = material.stretch() if self.haystack == "essays" else None

        def context(units: int) -> str:
            if stretch is not None:
                haystack = stretch.cut(units)[0]
            elif self.haystack == "noise":
                haystack = noise(units)
            else:
                haystack = _others(what, keys, values, count, units)
            return (
                f"The following text hides secret {what}s. Remember them, since a question about them comes after the "
                f"text.\n\n{material.place(haystack, needles)}"
            )

        first, *later = (self._asked(number, what, hidden, values) for number in range(material.questions))
        return Draft(first.answers, context, first.question, later=tuple(later))

    def _asked(self, number: int, what: str, hidden: list[str], values: Different) -> Asked:
        """A question by its number, and the values of its keys."""
        start, end = self.asked * number, self.asked * (number + 1)
        answers = values.first(end * self.values)[start * self.values :]
        return Asked(_question(what, hidden[start:end], len(answers)), tuple(answers))


def _needle(what: str, key: str, value: str) -> str:
    return f"One of the secret {what}s of {key} is {value}."


def _others(what: str, keys: Different, values: Different, count: int, units: int) -> list[str]:
    """So many needles beyond the first `count`, each with the gap before it."""
    pairs = zip(keys.first(count + units)[count:], values.first(count + units)[count:], strict=True)
    return [" " + _needle(what, key, value) for key, value in pairs]


def _question(what: str, asked: list[str], answers: int) -> str:
    listed = asked[0] if len(asked) == 1 else ", ".join(asked[:-1]) + f" and {asked[-1]}"
    # "Alone" keeps a small model from going on with the text, which the published prompts do by beginning the answer.
    if answers == 1:
        return f"What is the secret {what} of {listed} in the text above? Answer with the {what} alone."
    return f"What are all {answers} secret {what}s of {listed} in the text above? Answer with the {what}s alone."
