"""Facts told in a text, then asked for: one, several about one thing, two that lead from one to the other."""

from dataclasses import dataclass

from cokv_bench.tasks.recall.dice import Dice
from cokv_bench.tasks.recall.draft import Ask, Draft, asking
from cokv_bench.tasks.recall.fill import Filled, Words, slots, write
from cokv_bench.tasks.recall.genres import GENRES, Source, Text, constants, placed, talk
from cokv_bench.tasks.recall.score import BETWEEN

# The parts of an entry, and the facts of one that has two.
_PART, _FACT = " | ", " || "
_GRAIN = 2**20


@dataclass(frozen=True)
class Wording:
    """An entry of a list of facts: the facts, the question, and the fact again up to its answer where it can be."""

    facts: tuple[str, ...]
    question: str
    cloze: str

    @classmethod
    def drawn(cls, words: Words, kind: str, dice: Dice) -> "Wording":
        """One of a kind."""
        told, question, *cloze = words.entry(f"tell_{kind}", dice).split(_PART)
        return cls(tuple(told.split(_FACT)), question, cloze[0] if cloze else "")


def share(dice: Dice) -> float:
    """A place in a text, evenly drawn."""
    return dice.below(_GRAIN) / _GRAIN


@dataclass(frozen=True)
class Facts:
    """Facts of some kinds, in any genre.

    Attributes:
        kinds: lists of facts.
        genres: where they stand; by default in all.
        values: most values of one thing, all of which are asked for.
        choice: whether the question names the answer and another one.
    """

    kinds: tuple[str, ...]
    genres: tuple[str, ...] = tuple(GENRES)
    values: int = 1
    choice: bool = False

    def __call__(self, source: Source) -> Draft:
        """The draft of an example; half of them hold up to three further facts in the same wording."""
        words, dice = source.words, source.dice.of("facts")
        kind = dice.pick(self.kinds)
        wording = Wording.drawn(words, kind, dice)
        main = words.fill(wording.facts, dice)
        taken = set(main.values.values())
        answers = [main.values[main.answer]]
        facts = [write(fact, main.values) for fact in wording.facts]
        if self.values > 1:
            (told,) = wording.facts
            for _ in range(1 + dice.below(self.values - 1)):
                filled = _other_answer(words, told, main, dice, taken)
                answers.append(filled.values[filled.answer])
                facts.append(write(told, filled.values))
        others: list[str] = []
        for _ in range(1 + dice.below(3) if dice.chance(50) else 0):
            other = words.fill(wording.facts, dice, avoid=taken)
            taken.update(other.values.values())
            others += [write(fact, other.values) for fact in wording.facts]
        genre, text = ("code", constants(source)) if kind == "constant" else self._text(source, dice)
        shares = [share(dice) for _ in (*facts, *others)]
        if self.values > 1:
            # Told in the order in which they are to be answered.
            shares[: len(facts)] = sorted(shares[: len(facts)])
        values, classes = dict(main.values), None
        if self.choice:
            (rival,) = (
                slot for slot in main.values if slot != main.answer and slot.rstrip("2") == main.answer.rstrip("2")
            )
            classes = tuple(dice.some([answers[0], main.values[rival]], 2))
            values["one"], values["other"] = classes
        ask = asking(words, source.dice, cloze=bool(wording.cloze))
        return _draft(
            ask,
            text,
            facts + others,
            shares,
            question=write(wording.question, values),
            cloze=write(wording.cloze, values),
            answers=answers,
            kind=kind,
            genre=genre,
            of=len(facts),
            classes=classes,
        )

    def _text(self, source: Source, dice: Dice) -> tuple[str, Text]:
        genre = dice.pick(self.genres)
        return genre, GENRES[genre](source)


def _other_answer(words: Words, told: str, main: Filled, dice: Dice, taken: set[str]) -> Filled:
    known = {slot: main.values[slot] for slot in slots(told)}
    filled = words.fill([told], dice, avoid=taken, kept=known)
    taken.add(filled.values[filled.answer])
    return filled


def _draft(
    ask: Ask,
    text: Text,
    facts: list[str],
    shares: list[float],
    *,
    question: str,
    cloze: str,
    answers: list[str],
    kind: str,
    genre: str,
    of: int,
    classes: tuple[str, ...] | None = None,
) -> Draft:
    return Draft(
        answers=(BETWEEN.join(answers),),
        context=lambda units: ask.before + placed(text, units, facts, shares),
        end=lambda units: ask.end(question=question, cloze=cloze),
        kind=kind,
        genre=genre,
        chat=ask.chat,
        facts=tuple(facts[:of]),
        depth=shares[0],
        once=tuple(answers) if classes is None else (),
        classes=classes,
    )


def spoken(source: Source) -> Draft:
    """A line of a chat that tells something of its speaker, up to three others say the like."""
    words, dice, said = source.words, source.dice.of("spoken"), talk(source)
    wording = Wording.drawn(words, "spoken", dice)
    taken: set[str] = set()
    lines, speakers, answers = [], dice.some(said.people, 1 + (dice.below(3) if dice.chance(50) else 0)), []
    first: dict[str, str] = {}
    for speaker in speakers:
        filled = words.fill(wording.facts, dice, avoid=taken)
        taken.update(filled.values.values())
        answers.append(filled.values[filled.answer])
        lines.append(write(wording.facts[0], filled.values))
        first = first or {**filled.values, "speaker": speaker}
    teller = dict(zip(lines, speakers, strict=True))
    text = Text(said.unit, lambda line, i: said.line(teller[line], line, i))
    return _draft(
        asking(words, source.dice),
        text,
        lines,
        [share(dice) for _ in lines],
        question=write(wording.question, first),
        cloze="",
        answers=answers[:1],
        kind="spoken",
        genre="dialogue",
        of=1,
    )
