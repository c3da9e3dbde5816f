"""How files are written."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench.errors import RequestError
from cokv_bench.files import json_bytes, new_folder, write_text

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)


@given(st.dictionaries(st.text(), _VALUES))
def test_json_says_what_it_was_given(document: dict[str, object]) -> None:
    written = json_bytes(document)
    assert json.dumps(json.loads(written)) == json.dumps(document)
    assert written.endswith(b"\n")


def test_json_is_read_by_people() -> None:
    """What fits is on one line; lists of plain values fill lines."""
    text = json_bytes({"numbers": list(range(100)), "row": {"a": 1.5, "b": None}, 7: "ü"}).decode()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120
    assert len(lines) == 2 + (2 + 4) + 2
    assert ' "row": {"a": 1.5, "b": null},' in lines
    assert ' "7": "ü"' in lines


def test_json_has_no_infinite_number() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_bytes({"x": [float("inf")]})


@pytest.mark.parametrize("name", [".", "/", ".."])
def test_what_has_no_name_is_not_written_over(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="is a folder"):
        write_text(name, "text")
    # At once, without a walk through all that it holds.
    monkeypatch.setattr(Path, "rglob", lambda *_: pytest.fail("walked"))
    with pytest.raises(RequestError, match="is a folder"), new_folder(name, ()):
        pass
