"""What a pickle spells, read as data: nothing that it names is looked up, imported or called.

A pickle is a program for a small stack machine. This machine has the few instructions that numpy arrays and plain
containers need, and where the program asks for a call it writes the call down, with its arguments, and goes on.
"""

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cokv_bench.errors import RequestError

_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # numpy 1 and 2
RECONSTRUCT = frozenset(f"{module} _reconstruct" for module in _MODULES)
SCALAR = frozenset(f"{module} scalar" for module in _MODULES)
DTYPE = frozenset({"numpy dtype"})
NDARRAY = "numpy ndarray"
_CALLABLE = RECONSTRUCT | SCALAR | DTYPE

#: Every instruction takes at least a byte, so this bounds memory and time; the published files hold 20 kB.
MAX_BYTES = 2**20
_MAX_PROTOCOL = 5

_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
    | {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


@dataclass(frozen=True)
class Name:
    """A name that the pickle mentions: module, a space, and the name in it."""

    text: str


@dataclass(eq=False)
class Call:
    """A call that the pickle asks for, written down and not made.

    Attributes:
        function: what would be called, as in `Name`.
        arguments: its arguments.
        state: what would be given to `__setstate__` of the result; None where nothing would.
    """

    function: str
    arguments: tuple[Any, ...]
    state: Any = None


def read_pickle(data: bytes) -> Any:
    """The object that a pickle spells, of the protocols that `numpy.save` has used (3 and 4; up to 5 is accepted).

    Args:
        data: one whole pickle and nothing after it, at most `MAX_BYTES`.

    Returns:
        dict (string keys), list, tuple, str, bytes, int, float, bool and None as themselves; `Name` and `Call` for
        numpy arrays, dtypes and scalars, of which only the functions that numpy's own pickles need are admitted.

    Raises:
        RequestError: any other name, any other instruction, or a damaged pickle.
    """
    if len(data) > MAX_BYTES:
        raise RequestError(f"The pickle is {len(data)} bytes long; expected at most {MAX_BYTES}.")
    machine = _Machine()
    try:
        for name, argument, position in _instructions(data):
            if name == "STOP":
                return machine.result(len(data) - position - 1)
            machine.step(name, argument)
    except RequestError:
        raise
    except (ValueError, LookupError) as error:  # pickletools on torn data; our stack and memo on senseless data
        raise RequestError(f"The pickle is damaged ({error}); get the file again.") from None
    raise RequestError("The pickle has no end; get the file again.")


def _instructions(data: bytes) -> Iterator[tuple[str, Any, int]]:
    for opcode, argument, position in pickletools.genops(data):
        assert position is not None  # genops knows positions in bytes
        yield opcode.name, argument, position


class _Machine:
    """Stack and memo of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        # A dictionary: a list as long as the largest key would let five bytes ask for gigabytes.
        self.memo: dict[int, Any] = {}

    def result(self, left: int) -> Any:
        if left:
            raise RequestError(f"{left} bytes follow the end of the pickle; expected none.")
        if len(self.stack) != 1:
            raise RequestError(f"The pickle is damaged ({len(self.stack)} objects at its end); get the file again.")
        return self.stack[0]

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            stack.append(tuple(self._take(_TUPLES[name])))
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            self.memo[len(self.memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            stack.append([] if name == "EMPTY_LIST" else {})
        elif name in ("APPEND", "APPENDS"):
            self._extend(self._take(1) if name == "APPEND" else self._since_mark())
        elif name in ("SETITEM", "SETITEMS"):
            self._update(self._take(2) if name == "SETITEM" else self._since_mark())
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(self._name(argument if name == "GLOBAL" else " ".join(map(_text, self._take(2)))))
        elif name == "REDUCE":
            stack.append(_call(*self._take(2)))
        elif name == "BUILD":
            self._build(*self._take(1))
        elif name == "PROTO" and argument <= _MAX_PROTOCOL:
            pass
        elif name != "FRAME":  # a frame only says how far to read ahead
            raise RequestError(f"The pickle has the instruction {name}, which no file of arrays needs; it is not read.")

    def _take(self, count: int) -> list[Any]:
        """The last `count` objects, none of them a mark."""
        if len(self.stack) < count or _MARK in self.stack[-count:]:
            raise ValueError("an object is missing")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def _since_mark(self) -> list[Any]:
        taken = []
        while (top := self.stack.pop()) is not _MARK:
            taken.append(top)
        return taken[::-1]

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("items without a list")
        self.stack[-1].extend(items)

    def _update(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict) or len(items) % 2:
            raise ValueError("items without a dictionary")
        # Strings only: hashing tuples that hold one another twice, thirty deep, would take forever.
        self.stack[-1].update(zip(map(_text, items[::2]), items[1::2], strict=True))

    def _name(self, text: str) -> Name:
        if text not in _CALLABLE and text != NDARRAY:
            asked = text.replace(" ", ".")[:80]
            raise RequestError(f"The pickle asks for {asked!r}, which is no part of a numpy array; nothing was run.")
        return Name(text)

    def _build(self, state: Any) -> None:
        call = self.stack[-1]
        if not isinstance(call, Call) or call.state is not None:
            raise ValueError("a state without an object")
        call.state = state


def _call(function: Any, arguments: Any) -> Call:
    if not isinstance(function, Name) or function.text not in _CALLABLE or not isinstance(arguments, tuple):
        raise ValueError("a call of something that is no function")
    return Call(function.text, arguments)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__} in place of a name")
    return value
