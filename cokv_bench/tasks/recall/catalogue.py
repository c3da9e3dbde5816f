"""Short lists inside another text, asked for an item by its number or by the item before it."""

from cokv_bench.tasks.recall.draft import BEGUN, LISTING, SHORT, Draft, asking
from cokv_bench.tasks.recall.facts import share
from cokv_bench.tasks.recall.fill import write
from cokv_bench.tasks.recall.genres import PROSE, Source, boxed, cycled, placed

_NUMBERED = ("{n}. {item}", "{n}) {item}", "({n}) {item}", "No. {n}: {item}", "#{n} {item}")
_BULLETS = ("- {item}", "* {item}", "• {item}", "+ {item}", "[ ] {item}")


def item(source: Source) -> Draft:
    """An item of a list of five to twelve, which may be read out again up to it. A unit is one of the text around."""
    words, dice = source.words, source.dice.of("item")
    numbered, at = dice.chance(50), share(dice)
    form, title = dice.pick(_NUMBERED if numbered else _BULLETS), words.value("listtitle", dice)
    told = cycled(words, "item", dice)
    items: list[str] = []
    while len(items) < 5 + dice.below(8):
        text = words.text(told(len(items)), dice)
        if text not in items:
            items.append(text)
    lines = [form.format(n=n, item=each) for n, each in enumerate(items, 1)]
    place = 1 + dice.below(len(items) - 1)
    answer, before = items[place], items[place - 1]
    ask = asking(words, source.dice, (SHORT, BEGUN, LISTING, LISTING, LISTING))
    question = write(
        words.entry("itemnumber" if numbered else "itemafter", dice), {"n": str(place + 1), "item": before}
    )
    # Up to the answer: what is short of it, the whole list or the line before.
    begun = form.format(n=place + 1, item="").rstrip()
    cloze = "\n".join(
        [*([title, ""] if ask.way == LISTING else []), *lines[0 if ask.way == LISTING else place - 1 : place]]
    )
    genre = dice.pick(tuple(PROSE))
    text_around = boxed(PROSE[genre](source.without(items)))
    block = "\n".join([title, "", *lines])
    return Draft(
        answers=(answer,),
        context=lambda units: ask.before + placed(text_around, units, [block], [at]),
        end=lambda units: ask.end(question=question, cloze=f"{cloze}\n{begun}"),
        kind="number" if numbered else "after",
        genre=genre,
        chat=ask.chat,
        facts=(block,),
        depth=at,
        once=(answer, before),
    )
