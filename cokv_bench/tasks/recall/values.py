"""Values that are drawn and not listed: numbers, dates, codes. Each belongs to one split."""

from collections.abc import Callable
from uuid import UUID

from cokv_bench.tasks.base import Split
from cokv_bench.tasks.made.draw import title_side
from cokv_bench.tasks.recall.dice import Dice

_MONTHS = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


def _digits(dice: Dice, count: int) -> str:
    return str(10 ** (count - 1) + dice.below(9 * 10 ** (count - 1)))


def _number(dice: Dice) -> str:
    return _digits(dice, 4 + dice.below(4))


def _date(dice: Dice) -> str:
    day, month, year = 1 + dice.below(28), dice.pick(_MONTHS), 1850 + dice.below(190)
    return f"{day} {month} {year}"


def _time(dice: Dice) -> str:
    return f"{1 + dice.below(23)}:{dice.below(60):02}"


def _money(dice: Dice) -> str:
    return f"{_digits(dice, 3 + dice.below(4))} {dice.pick(('dollars', 'euros', 'pounds', 'crowns', 'francs'))}"


def _percent(dice: Dice) -> str:
    return f"{dice.below(90) + 2}.{dice.below(10)} percent"


def _code(dice: Dice) -> str:
    letters = "".join(dice.pick(_LETTERS) for _ in range(2 + dice.below(2)))
    return f"{letters}{dice.pick(('-', '', '/'))}{_digits(dice, 3 + dice.below(3))}"


def _uuid(dice: Dice) -> str:
    return str(UUID(int=dice.below(2**64) << 64 | dice.below(2**64), version=4))


def _hex(dice: Dice) -> str:
    return f"{dice.below(2**32):08x}"


def _phone(dice: Dice) -> str:
    return f"{_digits(dice, 3)}-{_digits(dice, 3)}-{_digits(dice, 4)}"


_DRAWN: dict[str, Callable[[Dice], str]] = {
    "number": _number,
    "date": _date,
    "time": _time,
    "money": _money,
    "percent": _percent,
    "code": _code,
    "uuid": _uuid,
    "hex": _hex,
    "phone": _phone,
}


def drawn(name: str, split: Split, dice: Dice) -> str | None:
    """A value of the split by the name of its kind; None where values of this name are not drawn.

    "small" is a number from 2 to 12, as texts count things; such ones belong to nobody.
    """
    if name == "small":
        return str(2 + dice.below(11))
    make = _DRAWN.get(name)
    if make is None:
        return None
    while title_side(value := make(dice)) != split:
        pass
    return value
