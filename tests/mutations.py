"""Damage to files, as disks, editors and strangers do it: to their bytes, and to what JSON, CSV and others say."""

import csv
import io
import json
import random
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import yaml

_NESTED, _HUGE, _NAN, _INFINITE = (f"@{name}@" for name in ("nested", "huge", "nan", "infinite"))
#: What a serialiser writes for a placeholder, and what stands there in the end.
_WRITTEN = {_NESTED: "[" * 20_000, _HUGE: "9" * 400, _NAN: "NaN", _INFINITE: "-Infinity"}
_HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 10**30, 2**63, 0.5, -2.5, 1e308, 1e-320, _NESTED, _HUGE, _NAN, _INFINITE),
    *(
        "",
        "a",
        "1",
        "x" * 5000,
        "\ud800",
        "a\nb",
        "\0",
        "[red]",
        "[/a]",
        "../..",
        "{context}",
        "needle",
        "mean",
        "full",
    ),
    *([], [[]], [1, "a"], {}, {"a": 1}, {"": None}, ["a"] * 500, [None], [[1]]),
)


def damaged(data: bytes, kind: str, rng: random.Random) -> bytes:
    """The content of a file with one to three changes; `kind` says how its structure is read."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice((_of_bytes, _STRUCTURES.get(kind, _of_bytes), _STRUCTURES.get(kind, _of_bytes)))
        try:
            data = change(data, rng)
        except (
            ValueError,
            KeyError,
            yaml.YAMLError,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            RuntimeError,
            OverflowError,
            csv.Error,
        ):
            # Damaged too much by the last change to be read for another.
            data = _of_bytes(data, rng)
    return data


def _of_bytes(data: bytes, rng: random.Random) -> bytes:
    at, end = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
    pieces = (b"\xff\xfe", b"\0", b"\xed\xa0\x80", b"{", b"]", b'"', b",", b"\n\n", b"\xe2\x80\xa8", b"-", b"x" * 2000)
    changes: tuple[Callable[[], bytes], ...] = (
        lambda: data[:at],
        lambda: data[at:],
        lambda: b"",
        lambda: data[:at] + data[end:],
        lambda: data[:end] + data[at:end] + data[end:],
        lambda: data[:at] + rng.choice(pieces) + data[at:],
        lambda: data[:at] + bytes([data[at] ^ (1 << rng.randint(0, 7))]) + data[at + 1 :] if at < len(data) else data,
        lambda: b"\xef\xbb\xbf" + data,
        lambda: data.replace(b"\n", b"\r\n"),
        lambda: data.rstrip(b"\n"),
        lambda: data + data,
    )
    return rng.choice(changes)()


def _places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield from _places(value, (*path, key))


def _of_document(document: Any, rng: random.Random) -> Any:
    """A JSON or YAML document with one place changed."""
    places = list(_places(document))
    # As often high up as deep down, where the most places are.
    depth = rng.randint(0, max(map(len, places)))
    path = rng.choice([place for place in places if len(place) <= depth])
    above, here = None, document
    for key in path:
        above, here = here, here[key]
    values = (
        rng.choice(_HOSTILE),
        rng.choice(_HOSTILE),
        here,
        [here],
        str(here)[:50],
        -here if _is_number(here) else 0,
    )
    value = rng.choice(values)
    if above is None:
        return value
    change = rng.randint(0, 5)
    if change < 3:
        above[path[-1]] = value
    elif change == 3:
        del above[path[-1]]
    elif isinstance(above, list):
        above.insert(path[-1], value)
    elif change == 4:
        above[rng.choice(("", "new", "\ud800", "a" * 600, 5))] = value
    else:
        above[f"{path[-1]}x"] = above.pop(path[-1])
    return document


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _filled(text: str) -> str:
    for placeholder, written in _WRITTEN.items():
        text = text.replace(f'"{placeholder}"', written).replace(placeholder, written)
    return text


def _of_json(data: bytes, rng: random.Random) -> bytes:
    text = _filled(json.dumps(_of_document(json.loads(data), rng)))
    if rng.random() < 0.1 and text.startswith("{") and len(text) > 2:
        # The first key twice.
        text = f"{text[:-1]}, {text[1:]}"
    return text.encode()


def _of_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(max(1, len(lines) - 1))
    change = rng.randint(0, 9)
    if change == 0:
        del lines[at]
    elif change == 1:
        lines.insert(rng.randint(0, len(lines)), lines[at])
    elif change == 2:
        rng.shuffle(lines)
    else:
        lines[at] = _of_json(lines[at], rng)
    return b"\n".join(lines)


def _of_yaml(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        lines = data.split(b"\n")
        odd = (
            b"&a [*a]",
            b"!!python/name:os.system",
            b"2020-01-01",
            b"? [1]",
            b"\t- x",
            b"0o17",
            b"{a: {b: [}",
            b"%Y x",
            b"- 1",
        )
        lines.insert(
            rng.randint(0, len(lines)), rng.choice((b"", b"steps: ", b"tasks: ", b"metric: ")) + rng.choice(odd)
        )
        return b"\n".join(lines)
    return _filled(yaml.safe_dump(_of_document(yaml.safe_load(data), rng), sort_keys=False)).encode()


def _of_csv(data: bytes, rng: random.Random) -> bytes:
    rows = list(csv.reader(io.StringIO(data.decode())))
    row, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
    cells = (
        "",
        "a",
        "-1",
        "0",
        "1.5",
        "nan",
        "inf",
        "1e400",
        "9" * 400,
        "True",
        "mean",
        "x" * 3000,
        "\n",
        '"',
        "full",
        "64",
    )
    change = rng.randint(0, 6)
    if change == 0:
        rows = [line[:column] + line[column + 1 :] for line in rows]
    elif change == 1:
        rows[0][column] = rng.choice(("", "score", "new"))
    elif change == 2:
        del rows[row]
    elif change == 3:
        rows.append(list(rows[row]))
    elif change == 4:
        rows[row].insert(min(column, len(rows[row])), rng.choice(cells))
    elif column < len(rows[row]):
        rows[row][column] = rng.choice(cells)
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue().encode()


def _of_npy(data: bytes, rng: random.Random) -> bytes:
    """A damaged header, or arrays of other kinds."""
    change = rng.randint(0, 4)
    if change == 0:
        return data.replace(b"(", rng.choice((b"(9999999999, ", b"(-1, ", b"((", b"(True, ")), 1)
    if change == 1:
        return data.replace(b"'descr'", rng.choice((b"'descx'", b"__x__", b"[" * 90)), 1)
    if change == 2:
        return data.replace(b"|O", rng.choice((b"<f8", b"<U9", b"|V8")), 1)
    if change == 3:
        at = rng.randrange(len(data))
        return data[:at] + rng.randbytes(8) + data[at + 8 :]
    written = io.BytesIO()
    arrays = (np.zeros((2, 2)), np.array("x"), np.array({"a": 1}), np.array([{}]), np.zeros(0), np.array([1j]))
    np.save(written, rng.choice(arrays))
    return written.getvalue()


def _of_zip(data: bytes, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    change = rng.randint(0, 5)
    if change == 0:
        members[rng.choice(("../x.jsonl", "x", name + "x"))] = members.pop(name)
    elif change < 4:
        members[name] = damaged(members[name], "npy" if name.endswith("npy") else "jsonl", rng)
    elif change == 4:
        members[name] = bytes(2**22)
    written = io.BytesIO()
    with zipfile.ZipFile(
        written, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    ) as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    found = bytearray(written.getvalue())
    if change == 5:
        # The flag of encryption, in the member's own header and in the directory.
        found[6] |= 1
        found[found.rfind(b"PK\x01\x02") + 8] |= 1
    return bytes(found)


_STRUCTURES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "json": _of_json,
    "jsonl": _of_lines,
    "yaml": _of_yaml,
    "csv": _of_csv,
    "npy": _of_npy,
    "zip": _of_zip,
}
