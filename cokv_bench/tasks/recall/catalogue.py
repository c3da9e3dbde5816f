"""Items of lists, by their number or by the item before them."""

from functools import cache

from cokv_bench.tasks.recall.draft import BEGUN, LISTING, SHORT, Draft, asking
from cokv_bench.tasks.recall.facts import share
from cokv_bench.tasks.recall.fill import write
from cokv_bench.tasks.recall.genres import Source, cycled

_NUMBERED = ("\n{n}. {item}", "\n{n}) {item}", "\n({n}) {item}", "\nNo. {n}: {item}", "\n#{n} {item}")
_BULLETS = ("\n- {item}", "\n* {item}", "\n• {item}", "\n[ ] {item}", "\n{item}")


def item(source: Source) -> Draft:
    """The item of a number, or the one after another. A unit is an item."""
    words, dice = source.words, source.dice.of("item")
    numbered, at = dice.chance(50), share(dice)
    form = dice.pick(_NUMBERED if numbered else _BULLETS)
    title, told = words.value("listtitle", dice), cycled(words, "item", dice)
    answer = words.value("item", source.dice.of("items", "asked"))
    before = words.value("item", source.dice.of("items", "before"), [answer])
    wording = words.entry("itemnumber" if numbered else "itemafter", dice)
    ask = asking(words, source.dice, (SHORT, BEGUN, LISTING, LISTING))

    def place(units: int) -> int:
        """Of the item before the answer, from 0."""
        return int(at * (units + 1))

    @cache
    def other(i: int) -> str:
        return words.text(told(i), source.dice.of("items", i))

    def context(units: int) -> str:
        items = [other(i) for i in range(units)]
        items[place(units) : place(units)] = [before, answer]
        lines = [form.format(n=n, item=each) for n, each in enumerate(items, 1)]
        return ask.before + title + "\n" + "".join(lines)

    def end(units: int) -> str:
        n = str(place(units) + 2)
        following = form.format(n=n, item="").rstrip()
        # Up to the answer: its number, or the item before it.
        cloze = following if numbered else form.format(n=n, item=before) + following
        return ask.end(question=write(wording, {"n": n, "item": before}), cloze=cloze.strip("\n"))

    return Draft(
        answers=(answer if ask.chat or form.format(n="1", item="").strip() else f"\n{answer}",),
        context=context,
        end=end,
        kind="number" if numbered else "after",
        genre="list",
        chat=ask.chat,
        facts=(before, answer),
        depth=at,
        once=(answer, before),
    )
