"""The ledger: what is written is read back, a crash costs one line, and nothing is mixed up."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from cokv_bench.errors import LONGEST, RequestError
from cokv_bench.game import Ledger, LedgerHeader, Row, SizesPlan
from cokv_bench.log import json_line

HEADER = LedgerHeader(
    model={"id": "toy", "layers": 2, "kv_heads": 3, "head_dim": 4, "weights": None},
    tasks=("needle", "longbench/qasper"),
    window=8,
    utility="loglik",
    seed=7,
    examples=("aa", "bb", "cc"),
    players=(2, 3),
    config={"slices": [1, 2, 3], "nested": {"é": 1.5}},
)
PLAN = SizesPlan(6, (1, 2, 3), seed=7)


def rows(start, stop):
    noise = np.random.default_rng(0).normal(size=(50, 3)) * 10.0 ** np.arange(-150, 150, 6)[:50, None]
    drawn = zip(range(start, stop), PLAN.row_sizes(start, stop), PLAN.coalitions(start, stop), strict=True)
    return [Row(k, size, members, noise[k]) for k, size, members in drawn]


def first_line():
    return json_line({"kind": "coalition-ledger", "schema": 1, **vars(HEADER)})


def written(path, count=6):
    with Ledger.open(path, HEADER) as ledger:
        ledger.append(rows(0, count))
    return path


def test_round_trip_is_exact(tmp_path):
    path = written(tmp_path / "a" / "ledger.jsonl")
    ledger = Ledger.read(path)
    assert ledger.done == set(range(6))
    np.testing.assert_array_equal(ledger.coalitions(), PLAN.coalitions(0, 6))
    np.testing.assert_array_equal(ledger.utilities(), [row.utilities for row in rows(0, 6)])
    assert ledger.header == HEADER
    first, second = (json.loads(line) for line in path.read_text().splitlines()[:2])
    assert first["players"] == [2, 3]
    assert second == {"k": 0, "slice": 1, "members": second["members"], "utilities": list(rows(0, 1)[0].utilities)}


def test_an_empty_ledger_has_arrays_of_the_right_shape(tmp_path):
    with Ledger.open(tmp_path / "l", HEADER) as ledger:
        assert ledger.coalitions().shape == (0, 6)
        assert ledger.utilities().shape == (0, 3)
        assert ledger.done == set()


def test_rows_come_out_by_k_whatever_the_order_of_writing(tmp_path):
    with Ledger.open(tmp_path / "l", HEADER) as ledger:
        ledger.append(rows(4, 6))
        ledger.append(rows(0, 2))
        np.testing.assert_array_equal(ledger.coalitions(), PLAN.coalitions(0, 6)[[0, 1, 4, 5]])
    np.testing.assert_array_equal(Ledger.read(tmp_path / "l").coalitions(), PLAN.coalitions(0, 6)[[0, 1, 4, 5]])


def test_numpy_numbers_are_written_as_numbers(tmp_path):
    with Ledger.open(tmp_path / "l", HEADER) as ledger:
        ledger.append([Row(np.int64(3), np.int32(2), PLAN.coalitions(3, 4)[0], np.float32([0.5, 1, 2]))])
    assert Ledger.read(tmp_path / "l").utilities().tolist() == [[0.5, 1, 2]]


def test_a_line_torn_at_any_byte_is_dropped_and_the_run_goes_on(tmp_path):
    whole = written(tmp_path / "whole", 4).read_bytes()
    begin = whole.rfind(b"\n", 0, -1) + 1
    path = tmp_path / "torn"
    for end in range(begin, len(whole)):
        path.write_bytes(whole[:end])
        assert Ledger.read(path).done == {0, 1, 2}
        assert path.read_bytes() == whole[:end]  # reading changes nothing
        with Ledger.open(path, HEADER) as ledger:
            assert ledger.done == {0, 1, 2}
            ledger.append(rows(3, 4))
        assert path.read_bytes() == whole


def test_a_torn_header_is_written_again(tmp_path):
    header = first_line()
    path = tmp_path / "l"
    for end in range(len(header)):
        path.write_bytes(header[:end])
        with pytest.raises(RequestError, match="does not begin with the header"):
            Ledger.read(path)
        Ledger.open(path, HEADER).close()
        assert path.read_bytes() == header


def test_a_file_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "l"
    for content in (b"notes without a newline", b"notes\nmore\n", b'{"kind": "head-values", "schema": 1}\n', b"[]\n"):
        path.write_bytes(content)
        with pytest.raises(RequestError, match="does not begin with the header of a coalition-ledger"):
            Ledger.open(path, HEADER)
        assert path.read_bytes() == content


def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "l"
    path.write_bytes(first_line().replace(b'"schema":1', b'"schema":2'))
    with pytest.raises(RequestError, match="schema version 2; this release reads version 1"):
        Ledger.read(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[:-5],
        lambda line: b"",
        lambda line: line.replace(b'"k":1', b'"k":0'),
        lambda line: line.replace(b'"k":1', b'"k":true'),
        lambda line: line.replace(b'"utilities":[', b'"utilities":[1,'),
        lambda line: line.replace(b'"utilities":[', b'"utilities":[NaN,'),
        lambda line: line.replace(b'"members":"', b'"members":"f'),
        lambda line: line[:5] + b"\xff" + line[5:],
    ],
)
def test_a_damaged_line_in_the_middle_is_named(tmp_path, damage):
    path = written(tmp_path / "l")
    lines = path.read_bytes().split(b"\n")
    lines[2] = damage(lines[2])
    path.write_bytes(b"\n".join(lines))
    for access in (Ledger.read, lambda p: Ledger.open(p, HEADER)):
        with pytest.raises(RequestError, match=r"line 3 .*; the file is damaged"):
            access(path)
    assert path.read_bytes() == b"\n".join(lines)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 8}, "seed is 7 there and 8 here; use the same or another folder"),
        (
            {"window": 32, "utility": "metric"},
            'window is 8 there and 32 here; utility is "loglik" there and "metric" here',
        ),
        ({"model": HEADER.model | {"weights": "f00"}}, 'model.weights is absent there and "f00" here'),
        ({"examples": ("aa", "bb")}, r'examples is \["aa", "bb", "cc"\] there and \["aa", "bb"\] here'),
        ({"config": {"slices": [1, 2, 3]}}, 'config.nested is {"é": 1.5} there and absent here'),
        ({"players": (3, 2)}, r"players is \[2, 3\] there and \[3, 2\] here"),
        ({"tasks": ()}, "tasks is .* here"),
    ],
)
def test_a_ledger_of_another_profile_is_refused(tmp_path, change, told):
    path = written(tmp_path / "l")
    before = path.read_bytes()
    with pytest.raises(RequestError, match=told):
        Ledger.open(path, replace(HEADER, **change))
    assert path.read_bytes() == before
    Ledger.open(path, HEADER).close()  # and the lock was given back


def test_long_lists_are_cut_in_the_message(tmp_path):
    Ledger.open(tmp_path / "l", HEADER).close()
    with pytest.raises(
        RequestError, match=r"examples is \[\"aa\", \"bb\", \"cc\"\] there and \[\"id0\", \"id1\", .*\.\.\. here"
    ) as caught:
        Ledger.open(tmp_path / "l", replace(HEADER, examples=tuple(f"id{i}" for i in range(500))))
    assert len(str(caught.value)) <= LONGEST


def test_rows_that_do_not_belong_are_refused_and_nothing_is_written(tmp_path):
    good = rows(2, 3)[0]
    bad = [
        (replace(good, k=0), "is in the ledger already"),
        (replace(good, k=-1), "negative"),
        (replace(good, members=np.ones(5, bool)), "has 5 players where the ledger has 6"),
        (replace(good, utilities=(1.0,)), "has 1 utilities for 3 examples"),
        (replace(good, utilities=(1.0, np.nan, 0.0)), "not finite"),
    ]
    path = written(tmp_path / "l", 2)
    before = path.read_bytes()
    with Ledger.open(path, HEADER) as ledger:
        for row, told in bad:
            with pytest.raises(RequestError, match=told):
                ledger.append([rows(3, 4)[0], row])
        with pytest.raises(RequestError, match="already"):
            ledger.append([good, good])
        assert path.read_bytes() == before
        assert ledger.done == {0, 1}
    with pytest.raises(RequestError, match="not open for writing"):
        ledger.append([good])
    with pytest.raises(RequestError, match="not open for writing"):
        Ledger.read(path).append([good])


def test_a_failed_write_leaves_whole_lines(tmp_path, monkeypatch):
    path = written(tmp_path / "l", 2)
    before = path.read_bytes()
    real = os.write
    with Ledger.open(path, HEADER) as ledger:

        def full_disk(descriptor, data):
            if len(data) < 40:
                raise OSError(28, "No space left on device")
            return real(descriptor, data[:30])

        monkeypatch.setattr(os, "write", full_disk)
        with pytest.raises(RequestError, match="No space"):
            ledger.append(rows(2, 4))
        monkeypatch.setattr(os, "write", real)
        assert path.read_bytes() == before
        assert ledger.done == {0, 1}
        ledger.append(rows(2, 4))
    assert Ledger.read(path).done == {0, 1, 2, 3}


HOLDER = """
import sys
from cokv_bench.game import Ledger
ledger = Ledger.open(sys.argv[1], Ledger.read(sys.argv[1]).header)
print("open", flush=True)
sys.stdin.readline()
"""


def test_a_second_writer_is_refused_while_readers_are_not(tmp_path):
    path = written(tmp_path / "l", 2)
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "open\n"
            with pytest.raises(RequestError, match=r"Another process is writing to .*; wait for it or stop it\.$"):
                Ledger.open(path, HEADER)
            assert Ledger.read(path).done == {0, 1}
        finally:
            holder.kill()
    with Ledger.open(path, HEADER) as ledger:  # a killed writer leaves no lock behind
        assert ledger.done == {0, 1}


def test_missing_and_unusable_paths(tmp_path):
    with pytest.raises(RequestError, match="No such file"):
        Ledger.read(tmp_path / "none")
    with pytest.raises(RequestError, match="directory"):
        Ledger.open(tmp_path, HEADER)
