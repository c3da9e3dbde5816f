"""Lines of code that a file of code holds: the one after a line, the first and the last of a function."""

from cokv_bench.tasks.recall.draft import BEGUN, LISTING, SHORT, Draft, asking
from cokv_bench.tasks.recall.facts import share
from cokv_bench.tasks.recall.fill import write
from cokv_bench.tasks.recall.genres import Source, program

# The list of wordings behind each kind.
_KINDS = {"next": "codenext", "last": "codereturn", "first": "codefirst"}


def code_line(source: Source) -> Draft:
    """A function of the file is asked for a line. A unit is a function more beside it."""
    words, dice, file = source.words, source.dice.of("line"), program(source)
    asked, at = file.function(-1), share(dice)
    kind = dice.pick(tuple(_KINDS))
    place = {"next": dice.below(len(asked.body) - 1) + 1, "last": len(asked.body) - 1, "first": 0}[kind]
    answer = asked.body[place]
    before = asked.body[place - 1] if place else asked.begin
    question = write(words.entry(_KINDS[kind], dice), {"line": before, "name": asked.name})
    ask = asking(words, source.dice, (SHORT, BEGUN, LISTING, LISTING))
    # From the first line to the one before the answer.
    end = ask.end(question=question, cloze="\n    ".join([asked.begin, *asked.body[:place]]))

    def context(units: int) -> str:
        spot = int(at * (units + 1))
        functions = [file.function(i).text for i in range(units)]
        functions.insert(spot, asked.text)
        return ask.before + "\n\n".join(functions)

    return Draft(
        answers=(answer if ask.chat else f"\n    {answer}",),
        context=context,
        end=lambda units: end,
        kind=kind,
        genre="code",
        chat=ask.chat,
        facts=(asked.text,),
        depth=at,
        once=(answer, before),
    )
