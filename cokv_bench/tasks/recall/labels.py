"""Few-shot labelling: texts with labels, then a text whose subject had its label before."""

from functools import cache

from cokv_bench.tasks.recall.draft import LISTING, SHORT, Draft, asking
from cokv_bench.tasks.recall.facts import share
from cokv_bench.tasks.recall.fill import write
from cokv_bench.tasks.recall.genres import Source

_FORMS = (
    ("Text: {text}\nLabel:", "\n\n"),
    ("{text} ->", "\n"),
    ("Input: {text}\nClass:", "\n\n"),
    ("{text}\nCategory:", "\n\n"),
    ("- {text} =>", "\n"),
    ("Sentence: {text} Topic:", "\n"),
)
_NOUNS = ("thing", "animal", "dish", "site")
# Subjects of a label, so that a label is more than a name for one of them.
_SUBJECTS = 3


def labelled(source: Source) -> Draft:
    """Four to seven labels with three subjects each. A unit is a text and its label; the asked subject has three."""
    words, dice = source.words, source.dice.of("labels")
    noun = dice.pick(_NOUNS)
    labels: list[str] = []
    for _ in range(4 + dice.below(4)):
        labels.append(words.value("label", dice, labels))
    nouns: list[str] = []
    for _ in range(_SUBJECTS * len(labels)):
        nouns.append(words.value(noun, dice, nouns))
    form, gap = dice.pick(_FORMS)
    offered = dice.some(labels, len(labels))
    asked, shares = nouns[0], [share(dice) for _ in range(3)]

    def shot(subject: int, part: object) -> str:
        own = source.dice.of("shot", part)
        template = words.entry("labelled", own)
        # Slots beside the subject are filled like any others.
        rest = words.fill([template.replace("{noun}", "")], own, avoid=nouns).values
        return form.format(text=write(template, {**rest, "noun": nouns[subject]}))

    def example(subject: int, part: object) -> str:
        return f"{shot(subject, part)} {labels[subject // _SUBJECTS]}"

    @cache
    def other(i: int) -> str:
        return example(1 + source.dice.of("subject", i).below(len(nouns) - 1), i)

    facts = [example(0, f"fact {k}") for k in range(len(shares))]
    ask = asking(words, source.dice, (SHORT, LISTING, LISTING, LISTING))
    last = shot(0, "asked")

    def context(units: int) -> str:
        shots = [other(i) for i in range(units)]
        for spot, fact in sorted(
            ((int(at * (units + 1)), fact) for at, fact in zip(shares, facts, strict=True)), reverse=True
        ):
            shots.insert(spot, fact)
        return ask.before + gap.join(shots)

    # A user's turn names the labels.
    wish = f"\n\n{words.entry('labelwish', dice)} ({', '.join(offered)})" if ask.chat else ""
    return Draft(
        answers=(labels[0],),
        context=context,
        end=lambda units: f"{wish}{gap if not wish else chr(10) * 2}{last}",
        kind="label",
        genre="shots",
        chat=ask.chat,
        facts=(*facts, asked),
        depth=min(shares),
        classes=tuple(labels),
    )
