"""Our JSON files, read with every field checked."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from cokv_bench.checks import strict_loads
from cokv_bench.errors import RequestError, quoted

Setting = TypeVar("Setting", bound=float)


def json_at(path: Path) -> Any:
    """What a JSON file holds; None where there is no such file, or no JSON in it."""
    try:
        return strict_loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def kind_of(path: Path) -> str | None:
    """What one of our JSON files says it is, such as "head-budgets"; None for anything else."""
    content = json_at(path)
    kind = content.get("kind") if isinstance(content, dict) else None
    return kind if isinstance(kind, str) else None


def is_kernel(value: Any) -> bool:
    """Whether scores can be pooled with that width: odd, so that tokens stay where they are."""
    return is_integer(value) and value > 0 and value % 2 == 1


def is_pooling(value: Any) -> bool:
    """Whether it is a way to pool scores."""
    return isinstance(value, str) and value in ("max", "avg")


_OF_RANKINGS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("kernel", is_kernel, "a positive odd number"),
    ("pooling", is_pooling, "max or avg"),
    *((name, lambda value: isinstance(value, str), "a text") for name in ("scorer", "method")),
)


def check_ranking(parameters: Mapping[str, Any]) -> None:
    """Raises `RequestError` where a kernel, a pooling, a scorer or a method is none that a ranking can have."""
    for name, good, expected in _OF_RANKINGS:
        if name in parameters and not good(parameters[name]):
            raise RequestError(f"The {name} is {quoted(parameters[name])}; expected {expected}.")


class Document:
    """A JSON object of ours, whose fields are taken out by type.

    Args:
        path: the file; the constructor reads it.
        kind: what the file must say it is, such as "head-budgets".
        schema: the schema version this code reads.

    Raises:
        RequestError: (constructor and every getter) one sentence with the file, what was found and what was expected.
    """

    def __init__(self, path: str | Path, kind: str, schema: int) -> None:
        self.path = Path(path)
        try:
            data = strict_loads(self.path.read_bytes())
            # Half a character, which JSON's escapes can spell, could be written to no other file.
            json.dumps(data, ensure_ascii=False).encode()
        except OSError as error:
            raise RequestError(f"Cannot read the {kind} file {self.path}: {error.strerror}.") from None
        except ValueError as error:
            raise RequestError(f"{self.path} is not a JSON file of kind {kind}: {error}.") from None
        if not isinstance(data, dict):
            raise RequestError(f"{self.path} holds a JSON {type(data).__name__}, not an object of kind {kind}.")
        if data.get("kind") != kind:
            raise RequestError(f"{self.path} is of kind {quoted(data.get('kind'))}; expected {kind!r}.")
        found = data.get("schema")
        if isinstance(found, bool) or found != schema:
            raise RequestError(f"{self.path} has schema version {quoted(found)}; this release reads version {schema}.")
        self.data: dict[str, Any] = data

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Put the file's name before the errors of checks that do not know it."""
        try:
            yield
        except RequestError as error:
            raise RequestError(f"{self.path}: {error}") from None

    def fail(self, key: str, expected: str) -> NoReturn:
        """Refuse a field, saying what is there and what should be."""
        shown = quoted(self.data[key]) if key in self.data else "missing"
        raise RequestError(f"{self.path}: the field {key!r} is {shown}; expected {expected}.")

    def model(self) -> dict[str, Any]:
        """The fingerprint of the model that the file is about."""
        # On first use: that module needs this one.
        from cokv_bench.budgets.fingerprint import check_fingerprint

        model = self.mapping("model")
        with self.naming():
            check_fingerprint(model)
        return model

    def made_from(self) -> dict[str, tuple[str, ...]]:
        """What it was made from: tasks, examples and documents, which earlier versions do not say."""
        named = {key: self.texts(key) for key in ("tasks", "examples")}
        return {**named, "documents": self.optional_texts("documents")}

    def integer(self, key: str) -> int:
        value = self.data.get(key)
        if not is_integer(value):
            self.fail(key, "an integer")
        return int(value)  # type: ignore[arg-type]

    def optional_integer(self, key: str) -> int | None:
        return None if self.data.get(key) is None else self.integer(key)

    def text(self, key: str) -> str:
        value = self.data.get(key)
        return value if isinstance(value, str) else self.fail(key, "a string")

    def optional_text(self, key: str) -> str | None:
        return None if self.data.get(key) is None else self.text(key)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.data.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fail(key, "a list of strings")
        return tuple(value)

    def optional_texts(self, key: str) -> tuple[str, ...]:
        return self.texts(key) if key in self.data else ()

    def mapping(self, key: str) -> dict[str, Any]:
        value = self.data.get(key)
        return value if isinstance(value, dict) else self.fail(key, "an object")

    def curves(self, key: str, setting: Callable[[str], Setting]) -> dict[int, dict[Setting, float]]:
        """Utilities by budget and setting (see `cokv_bench.budgets.curves`); empty where the key is absent.

        Args:
            setting: what makes a setting from its text, such as `int`.
        """
        written = self.mapping(key) if key in self.data else {}
        try:
            curves: dict[int, dict[Setting, float]] = {
                int(budget): {setting(text): float(utility) for text, utility in utilities.items()}
                for budget, utilities in written.items()
            }
        except (ValueError, TypeError, AttributeError, OverflowError):
            self.fail(key, "budgets with utilities by setting")
        for budget, measured in curves.items():
            if not 1 <= budget < 2**53 or not measured or not all(map(is_finite, [*measured, *measured.values()])):
                self.fail(key, "budgets with utilities by setting")
        return curves

    def integers(self, key: str, rows: int, columns: int) -> NDArray[np.int64]:
        """An integer table, int64 [rows, columns]."""
        table = self._table(key, self.data.get(key), rows, columns)
        if not all(is_integer(cell) and abs(cell) < 2**63 for row in table for cell in row):
            self.fail(key, "integers only")
        return np.array(table, dtype=np.int64)

    def counts(self, key: str) -> tuple[int, ...]:
        value = self.data.get(key)
        if not isinstance(value, list) or not all(is_integer(item) for item in value):
            self.fail(key, "a list of integers")
        return tuple(value)

    def floats(self, key: str, rows: int, columns: int, *, null: bool = False) -> NDArray[np.float64]:
        """A table of finite numbers, float64 [rows, columns]; where allowed, null becomes NaN."""
        return self._finite(key, self._table(key, self.data.get(key), rows, columns), null=null)

    def tables(self, key: str, number: int, rows: int, columns: int) -> NDArray[np.float64]:
        """Several tables of finite numbers, float64 [number, rows, columns]."""
        tables = self.data.get(key)
        if not isinstance(tables, list) or len(tables) != number:
            self.fail(key, f"a list of {number} tables [layers][kv_heads]")
        return np.array([self._finite(key, self._table(key, each, rows, columns)) for each in tables])

    def _finite(self, key: str, table: list[list[Any]], *, null: bool = False) -> NDArray[np.float64]:
        if not all(is_finite(cell) or (null and cell is None) for row in table for cell in row):
            self.fail(key, "finite numbers only" + (" (null where unknown)" if null else ""))
        return np.array(table, dtype=np.float64)

    def _table(self, key: str, table: Any, rows: int, columns: int) -> list[list[Any]]:
        if not isinstance(table, list) or not all(isinstance(row, list) for row in table):
            self.fail(key, "a list of lists [layers][kv_heads]")
        widths = sorted({len(row) for row in table})
        if len(table) != rows or widths != [columns]:
            found = f"{len(table)} x {' or '.join(map(str, widths)) or 0}"
            raise RequestError(
                f"{self.path}: the field {key!r} is {found} (layers x KV heads); "
                f"expected {rows} x {columns} as the file's own model has."
            )
        return table


def is_integer(value: Any) -> bool:
    """True for a Python integer; JSON's true and false are not numbers."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    # A JSON integer may have more digits than a float can hold.
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
