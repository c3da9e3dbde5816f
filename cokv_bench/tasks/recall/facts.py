"""Facts told in a text, then asked for: one, several about one thing, two that lead from one to the other."""

from dataclasses import dataclass

from cokv_bench.tasks.recall.dice import Dice
from cokv_bench.tasks.recall.draft import AGAIN, BEGUN, CHOICE, LISTING, SENTENCE, SHORT, Draft, asking
from cokv_bench.tasks.recall.fill import Filled, Words, slots, write
from cokv_bench.tasks.recall.genres import GENRES, Source, Text, constants, placed, talk
from cokv_bench.tasks.recall.score import BETWEEN
from cokv_bench.tasks.recall.wording import Wording

_GRAIN = 2**20
# A small model is soon lost among facts of the same wording.
_ALONE = 70


def share(dice: Dice) -> float:
    """A place in a text, evenly drawn."""
    return dice.below(_GRAIN) / _GRAIN


@dataclass(frozen=True)
class Facts:
    """Facts of some kinds in any genre, some of them among up to three others of the same wording.

    Attributes:
        kinds: lists of facts.
    """

    kinds: tuple[str, ...]

    def __call__(self, source: Source) -> Draft:
        """The draft of an example.

        The reference is the answer, or the sentence of the text where it is asked for; where one fact leads to the
        other it is both, since nobody guesses what the second is about.
        """
        words, dice = source.words, source.dice.of("facts")
        kind = dice.pick(self.kinds)
        wording = Wording.drawn(words, kind, dice)
        filled = words.fill(wording.facts, dice)
        facts, answer = wording.tell(filled), filled.values[filled.answer]
        cloze, rest = wording.begun(filled)
        steps = len(facts) > 1
        if wording.cloze and not steps and (not cloze or dice.chance(10)):
            cloze, rest = write(wording.cloze, filled.values), answer
        ask = asking(words, source.dice, (SHORT, SHORT, SENTENCE, BEGUN, BEGUN, BEGUN, AGAIN, AGAIN))
        reference = rest if not ask.chat else " ".join(facts) if ask.way == SENTENCE or steps else answer
        if steps and dice.chance(50):
            # One behind the other: what small models can follow.
            facts = [" ".join(facts)]
        others = _others(words, wording, filled, dice)
        around = source.without(filled.values.values())
        genre, text = ("code", constants(around)) if kind == "constant" else _text(around, dice)
        shares = [share(dice) for _ in (*facts, *others)]
        question = write(wording.question, filled.values)
        return Draft(
            answers=tuple(dict.fromkeys((reference, answer))),
            context=lambda units: ask.before + placed(text, units, facts + others, shares),
            end=lambda units: ask.end(question=question, cloze=cloze),
            kind=kind,
            genre=genre,
            chat=ask.chat,
            facts=tuple(facts),
            depth=shares[0],
            once=(answer,),
        )


def _text(source: Source, dice: Dice) -> tuple[str, Text]:
    genre = dice.pick(tuple(GENRES))
    return genre, GENRES[genre](source)


def _others(words: Words, wording: Wording, filled: Filled, dice: Dice) -> list[str]:
    """Facts in the same wording about other things."""
    taken, told = set(filled.values.values()), []
    for _ in range(0 if dice.chance(_ALONE) else 1 + dice.below(3)):
        other = words.fill(wording.facts, dice, avoid=taken)
        taken.update(other.values.values())
        told += wording.tell(other)
    return told


def several(source: Source) -> Draft:
    """Two to four values of one thing, told in one sentence or all over the text, and all asked for."""
    words, dice = source.words, source.dice.of("several")
    wording = Wording.drawn(words, "several", dice)
    filled = words.fill(wording.facts, dice)
    known = {slot: filled.values[slot] for slot in slots(wording.facts[0])}
    fills, taken = [filled], set(filled.values.values())
    for _ in range(1 + dice.below(3)):
        fills.append(words.fill(wording.facts, dice, avoid=taken, kept=known))
        taken.update(fills[-1].values.values())
    answers = [each.values[each.answer] for each in fills]
    answer, cloze = BETWEEN.join(answers), write(wording.cloze, filled.values)
    together = dice.chance(70)
    facts = [f"{cloze} {answer}."] if together else [fact for each in fills for fact in wording.tell(each)]
    others = [] if together else _others(words, wording, filled, dice)
    genre, text = _text(source.without(taken), dice)
    # Told in the order in which they are to be answered.
    shares = sorted(share(dice) for _ in facts) + [share(dice) for _ in others]
    ask = asking(words, source.dice, (SHORT, BEGUN, BEGUN, AGAIN))
    question = write(wording.question, filled.values)
    return Draft(
        answers=(answer,),
        context=lambda units: ask.before + placed(text, units, facts + others, shares),
        end=lambda units: ask.end(question=question, cloze=cloze),
        kind="together" if together else "apart",
        genre=genre,
        chat=ask.chat,
        facts=tuple(facts),
        depth=shares[0],
        once=tuple(answers),
    )


def which(source: Source) -> Draft:
    """A question that names its answer and the other thing that the fact is about."""
    words, dice = source.words, source.dice.of("which")
    wording = Wording.drawn(words, "which", dice)
    filled = words.fill(wording.facts, dice)
    answer, kind = filled.values[filled.answer], filled.answer.rstrip("2")
    (rival,) = (slot for slot in filled.values if slot.rstrip("2") == kind and slot != filled.answer)
    one, other = dice.some([answer, filled.values[rival]], 2)
    facts, others = wording.tell(filled), _others(words, wording, filled, dice)
    genre, text = _text(source.without(filled.values.values()), dice)
    shares = [share(dice) for _ in (*facts, *others)]
    ask = asking(words, source.dice, (SHORT, CHOICE, CHOICE, CHOICE))
    question = write(wording.question, {**filled.values, "one": one, "other": other})
    return Draft(
        answers=(answer,),
        context=lambda units: ask.before + placed(text, units, facts + others, shares),
        end=lambda units: ask.end(question=question),
        kind="which",
        genre=genre,
        chat=ask.chat,
        facts=tuple(facts),
        depth=shares[0],
        classes=(one, other),
    )


def spoken(source: Source) -> Draft:
    """A line of a chat that tells something of its speaker; up to two others say the like."""
    words, dice = source.words, source.dice.of("spoken")
    wording = Wording.drawn(words, "spoken", dice)
    fills: list[Filled] = []
    for _ in range(1 if dice.chance(_ALONE) else 2 + dice.below(2)):
        fills.append(words.fill(wording.facts, dice, avoid={v for each in fills for v in each.values.values()}))
    said = talk(source.without(fills[0].values.values()))
    speakers = dice.some(said.people, len(fills))
    lines = [write(wording.facts[0], each.values) for each in fills]
    filled, teller = fills[0], dict(zip(lines, speakers, strict=True))
    begun, rest = wording.begun(filled)
    if not begun:
        # The answer is all that one of these lines tells.
        begun, rest = wording.facts[0].partition("{=")[0].rstrip(), filled.values[filled.answer]
    text = Text(said.unit, lambda line, i: said.line(teller[line], line, i))
    ask = asking(words, source.dice, (SHORT, SHORT, LISTING, LISTING, BEGUN))
    shares = [share(dice) for _ in lines]
    question = write(wording.question, {**filled.values, "speaker": speakers[0]})
    cloze = said.begun(speakers[0], begun)
    return Draft(
        answers=(filled.values[filled.answer] if ask.chat else rest,),
        context=lambda units: ask.before + placed(text, units, lines, shares),
        end=lambda units: ask.end(question=question, cloze=cloze),
        kind=wording.facts[0].partition("{=")[2].partition("}")[0],
        genre="dialogue",
        chat=ask.chat,
        facts=(said.begun(speakers[0], lines[0]),),
        depth=shares[0],
        once=(filled.values[filled.answer],),
    )
