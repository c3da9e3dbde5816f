"""Things by name, each with one line and its origin: what `cokv-bench ls` lists and what options choose from."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, TypeVar

from cokv_bench.errors import RequestError, brief, unknown

T = TypeVar("T")

#: Origin of the entries that come with the package.
PACKAGE = "cokv-bench"
_adding: ContextVar[str] = ContextVar("_adding", default="this process")
# What has been added meanwhile: registries with names.
_added: ContextVar[list[tuple["Registry[Any]", str]] | None] = ContextVar("_added", default=None)


@contextmanager
def adding(origin: str) -> Iterator[None]:
    """What is added to any registry meanwhile has this origin, such as the name of a plug-in.

    After an error it is taken out again, so that what was mended can be added.
    """
    added: list[tuple[Registry[Any], str]] = []
    tokens = _adding.set(origin), _added.set(added)
    try:
        yield
    except BaseException:
        for registry, name in added:
            del registry[name]
        raise
    finally:
        _adding.reset(tokens[0])
        _added.reset(tokens[1])


def declared(modules: str, first: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """What modules of the package say of themselves, for `Registry`: a new one is found without a list to edit.

    A module has `ENTRY = (name, line, attribute)`, which is read and not run; a fourth part is a mark, as of `add`.

    Args:
        modules: pattern of their files inside the package.
        first: names that come first, in this order; the others follow by name.
    """
    root = Path(__file__).parent
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(root.glob(modules)):
        entry = _constant(path.read_text(encoding="utf-8"), "ENTRY")
        if entry is not None:
            name, line, attribute, *mark = entry
            found[name] = line, f"{_module(path.relative_to(root))}:{attribute}", *mark
    return {name: found[name] for name in (*first, *sorted(found.keys() - set(first)))}


def described(files: str, module: str) -> dict[str, tuple[str, str]]:
    """What YAML files of the package are called and say of themselves, for `Registry`, as attributes of a module.

    The first line of each is `about: LINE`. The module makes the thing of a name when it is asked for the attribute.

    Args:
        files: pattern of the files inside the package.
        module: full name.
    """
    paths = sorted(Path(__file__).parent.glob(files))
    firsts = {path.stem: path.read_text(encoding="utf-8").partition("\n")[0] for path in paths}
    return {name: (first.removeprefix("about: "), f"{module}:{name}") for name, first in firsts.items()}


def _module(path: Path) -> str:
    return ".".join((__package__, *path.with_suffix("").parts))


def _constant(code: str, name: str) -> Any:
    """The value of a constant of a module; None where it has none of that name."""
    if f"\n{name} = " not in code:
        return None
    assigned = [node for node in ast.parse(code).body if isinstance(node, ast.Assign)]
    values = [node.value for node in assigned if [ast.unparse(target) for target in node.targets] == [name]]
    return ast.literal_eval(values[0]) if values else None


@dataclass
class _Entry(Generic[T]):
    line: str
    thing: T | str
    origin: str
    mark: str = ""


class Registry(Generic[T]):
    """Things of one kind by name, in the order in which they were added.

    A thing may be given as the text "module:attribute". It is imported when it is first asked for, so that names can
    be listed and checked without PyTorch. `in`, `len`, iteration, `[name]`, `keys`, `values`, `items` and `del` are
    those of a dict, but an unknown name is refused as by `get`.
    """

    def __init__(
        self,
        kind: str,
        shipped: Mapping[str, tuple[Any, ...]] | None = None,
        earlier: Mapping[str, str] | None = None,
    ) -> None:
        """A registry.

        Args:
            kind: what one entry is called in a refusal, such as "method".
            shipped: the package's own entries, by name: one line, the thing or "module:attribute", and a mark if any.
            earlier: names that entries had in earlier releases, with those that they have now. They are known, and
                never listed.
        """
        self.kind = kind
        self._earlier = dict(earlier or {})
        self._entries: dict[str, _Entry[T]] = {
            name: _Entry(line, thing, PACKAGE, *mark) for name, (line, thing, *mark) in (shipped or {}).items()
        }

    def add(self, name: str, line: str, thing: T | str, mark: str = "") -> None:
        """Add a thing, or "module:attribute" to import it from, with one line about it.

        Args:
            mark: what else must be known of it without importing it, such as that it is a "ceiling".

        Raises:
            RequestError: the name is taken.
        """
        if name in self:
            origin = self.origin(name)
            raise RequestError(f"There is a {self.kind} '{name}' already, from {origin}; choose another name.")
        self._entries[name] = _Entry(line, thing, _adding.get(), mark)
        added = _added.get()
        if added is not None:
            added.append((self, name))

    def get(self, name: str) -> T:
        """The thing of that name.

        Raises:
            RequestError: there is none (the nearest names are given), or it cannot be imported.
        """
        entry = self._entry(name)
        if not isinstance(entry.thing, str):
            return entry.thing
        module, _, attribute = entry.thing.partition(":")
        try:
            found: T = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise RequestError(
                f"The {self.kind} '{name}' of {entry.origin} cannot be imported: {brief(error)}."
            ) from error
        entry.thing = found
        return found

    def check(self, name: str) -> None:
        """Refuse a name that is not there, without importing anything. Raises `RequestError` with the nearest ones."""
        if name not in self:
            raise unknown(self.kind, name, self._entries)

    def current(self, name: str) -> str:
        """The name that an entry has now, of one that it had in an earlier release; any other as it is."""
        return self._earlier.get(name, name)

    def line(self, name: str) -> str:
        """What is said about an entry. Raises `RequestError` for an unknown one."""
        return self._entry(name).line

    def marked(self, mark: str) -> set[str]:
        """The names of entries that have this mark."""
        return {name for name, entry in self._entries.items() if entry.mark == mark}

    def origin(self, name: str) -> str:
        """`PACKAGE`, or the plug-in that added an entry. Raises `RequestError` for an unknown one."""
        return self._entry(name).origin

    def _entry(self, name: str) -> _Entry[T]:
        self.check(name)
        return self._entries[self.current(name)]

    def __getitem__(self, name: str) -> T:
        return self.get(name)

    def __delitem__(self, name: str) -> None:
        self.check(name)
        del self._entries[self.current(name)]

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._earlier

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def keys(self) -> list[str]:
        """All names."""
        return list(self._entries)

    def values(self) -> list[T]:
        """All things, imported."""
        return [self.get(name) for name in self._entries]

    def items(self) -> list[tuple[str, T]]:
        """All names with their things, imported."""
        return [(name, self.get(name)) for name in self._entries]
