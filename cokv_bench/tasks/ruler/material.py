"""What the prompts are made of: keys, values and words that a seed decides, each of one split."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import ascii_lowercase
from uuid import UUID

from cokv_bench.tasks.base import Split
from cokv_bench.tasks.made.draw import draw, may_appear, value_side
from cokv_bench.tasks.made.haystack import Haystack, Stretch, deal, read_documents

# The gaps keep out halves of "self-taught" and "don't", capitals keep out names.
_WORD = re.compile(r"(?<![\w'-])[a-z]{4,}(?![\w'-])")
# Words of grammar, which no one would ask for.
_FUNCTION_WORDS = """
about above across after again against almost along already also although always among another around
away because been before behind being below beneath between beyond both cannot could does doing done
down during each either else enough even ever every from have having here hers herself himself however
into itself just less many merely might more most much must myself near nearly neither never none
nothing often once only other others ours over perhaps quite rather same shall should since some still
such than that their them themselves then there these they this those though through together toward
towards under unless until upon very well were what whatever when where whether which while whom whose
will with within without would your yours yourself
"""


@cache
def words(split: Split) -> tuple[str, ...]:
    """The content words of the packaged essays that belong to a split, sorted; no two splits share one.

    Lower case, letters only, at least four. A word that begins with a listed one is left out, so that "stone" and
    "stones" are not two words of one list, nor of two splits. The report's come from its own essays and a list beside
    them.
    """
    dealt = _listed(" ".join(document.text for document in read_documents()))
    if split != "report":
        return tuple(word for word in dealt if value_side(word) == split)
    own = resources.files(__package__).joinpath("report_words.txt").read_text(encoding="utf-8")
    new = _listed(" ".join([own, *(document.text for document in deal()["report"])]))
    beginnings = {word[:length] for word in dealt for length in range(4, len(word) + 1)}
    return tuple(
        word
        for word in new
        if may_appear(word, split)
        and word not in beginnings
        and not any(word[:length] in dealt for length in range(4, len(word) + 1))
    )


def _listed(text: str) -> dict[str, None]:
    listed: list[str] = []
    for word in sorted(set(_WORD.findall(text)) - set(_FUNCTION_WORDS.split())):
        if not listed or not word.startswith(listed[-1]):
            listed.append(word)
    return dict.fromkeys(listed)


class Different:
    """An endless list of different texts that belong to one split; asking for more never changes the first ones.

    Args:
        split: "profile", "test" or "report".
        make: the candidate of a number 0, 1, ...; it must not run out of texts of the split.
    """

    def __init__(self, split: Split, make: Callable[[int], str]) -> None:
        self._split, self._make = split, make
        self._tried = 0
        self._found: dict[str, None] = {}

    def first(self, count: int) -> list[str]:
        """The first `count` texts."""
        while len(self._found) < count:
            candidate = self._make(self._tried)
            self._tried += 1
            if may_appear(candidate, self._split):
                self._found.setdefault(candidate)
        return list(self._found)[:count]


@dataclass(frozen=True)
class Material:
    """The draws of one example.

    Attributes:
        split: "profile", "test" or "report".
        length: tokens that the prompt may have.
        seed: what makes this example's draws its own.
        essays: the haystack of the split.
        number: which example of its length and split this is, from 0.
        series: the seed of what all examples of the split share, whatever their length.
        questions: of each context, where a subtask has several.
    """

    split: Split
    length: int
    seed: str
    essays: Haystack
    number: int
    series: str
    questions: int = 1

    def below(self, n: int, *parts: object) -> int:
        """A number in 0..n-1 for the given parts."""
        return draw(n, "ruler", self.seed, *parts)

    def numbers(self, digits: int) -> Different:
        """Whole numbers of that many digits."""
        return self._different(lambda i: str(10 ** (digits - 1) + self.below(9 * 10 ** (digits - 1), "number", i)))

    def uuids(self, use: str) -> Different:
        """Random UUIDs (version 4), other ones for another use."""

        def make(i: int) -> str:
            return str(UUID(int=self.below(2**64, use, i) << 64 | self.below(2**64, use, i, "low"), version=4))

        return self._different(make)

    def letters(self, count: int) -> Different:
        """Meaningless words of that many lower-case letters."""
        return self._different(lambda i: "".join(ascii_lowercase[self.below(26, "letter", i, k)] for k in range(count)))

    def pairs(self) -> Different:
        """Two words of the split with a hyphen between them."""
        return self._different(self._pair)

    def single_words(self) -> Different:
        """The words of the split in a drawn order, and pairs of them once every word was given.

        The pairs leave out the first ten words, the ones whose occurrences are counted (cwe).
        """
        # An order of its own, or a list of these words, shuffled in turn, would begin with the first of them.
        order = self.shuffled(words(self.split), "words")
        return self._different(lambda i: order[i] if i < len(order) else self._pair(i, order[10:]))

    def shuffled(self, texts: list[str] | tuple[str, ...], use: str = "order") -> list[str]:
        """The texts in a drawn order, another one for another use; a text more leaves the others' order as it is."""
        seen: dict[str, int] = {}
        ranked = []
        for text in texts:
            seen[text] = seen.get(text, 0) + 1
            ranked.append((self.below(2**64, use, text, seen[text]), text))
        return [text for _, text in sorted(ranked)]

    def stretch(self) -> Stretch:
        """Essay sentences from a drawn one on, enough for the length."""
        start = self.below(len(self.essays.sentences), "start")
        # A sentence on its own may have a token more than in its text, so take some to spare.
        return self.essays.stretch(start, self.length + self.length // 4 + 64)

    def place(self, sentences: list[str], extra: list[str], *, in_order: bool = False) -> str:
        """The text of the sentences with the extra ones between them, at drawn places.

        Args:
            sentences: each with the gap before it.
            extra: without a gap.
            in_order: the extra sentences keep their order.
        """
        shares = [self.below(2**32, "place", k) for k in range(len(extra))]
        if in_order:
            shares.sort()
        spots = [share * (len(sentences) + 1) >> 32 for share in shares]
        # Extra sentence before the sentence of the same number.
        numbered = [(spot, 0, k, " " + text) for k, (spot, text) in enumerate(zip(spots, extra, strict=True))]
        numbered += [(i, 1, 0, text if i else " " + text.lstrip()) for i, text in enumerate(sentences)]
        return "".join(text for *_, text in sorted(numbered)).strip()

    def _pair(self, i: int, among: list[str] | None = None) -> str:
        known = words(self.split) if among is None else among
        return "-".join(known[self.below(len(known), "pair", i, half)] for half in "ab")

    def _different(self, make: Callable[[int], str]) -> Different:
        return Different(self.split, make)


# Says nothing that a question could ask for.
_NOISE = ("The lamp is warm.", "The road is long.", "The river is slow.", "We wait a while.", "Then we walk on.")


def noise(count: int) -> list[str]:
    """So many sentences that say nothing, the same five over and over, each with the gap before it."""
    return [" " + _NOISE[i % len(_NOISE)] for i in range(count)]
