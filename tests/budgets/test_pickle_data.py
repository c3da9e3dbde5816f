"""Pickles read as data: what numpy writes is read, and of a hostile pickle nothing runs."""

import builtins
import contextlib
import copyreg
import io
import os
import pickle
import random
import subprocess
import tracemalloc

import numpy as np
import pytest

from cokv_bench.budgets.importers.npy import read_archive, read_dictionary
from cokv_bench.budgets.importers.pickle_data import MAX_BYTES, read_pickle
from cokv_bench.errors import RequestError

TABLE = np.array([0.5, -1 / 3, 1e-300])
ENTRIES = {"table": TABLE, "large": np.int64(2**40), "count": 3, "share": 0.25, "none": None, "on": True, "raw": b"ab"}


def npy(content, protocol=4):
    """A .npy file as numpy.save writes it, of any protocol."""
    array = np.empty((), dtype=object)
    array[()] = content
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    return stream.getvalue() + pickle.dumps(array, protocol=protocol)


def header(descr, shape, body=b""):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + body


def check(read):
    np.testing.assert_array_equal(read.pop("table"), TABLE)
    assert read == {key: value for key, value in ENTRIES.items() if key != "table"}


@pytest.mark.parametrize("protocol", [3, 4])
def test_what_numpy_writes_is_read(protocol):
    check(read_dictionary(npy(ENTRIES, protocol)))


def test_what_numpy_save_writes_is_read_under_either_name_of_its_module(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, ENTRIES)
    check(read_dictionary(path.read_bytes()))
    # As numpy 1 names it; in protocol 3 a name is a line, of any length.
    old = npy(ENTRIES, 3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    check(read_dictionary(old))


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i4", ">i8", "<u8"])
def test_number_types_and_byte_orders(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    for one in (array, np.asfortranarray(array)):
        read = read_dictionary(npy({"a": one}))["a"]
        np.testing.assert_array_equal(read, array)
        assert read.dtype == np.dtype(dtype)


class Reduced:
    """Pickled as a call of anything with any arguments."""

    def __init__(self, *reduction):
        self.reduction = reduction

    def __reduce__(self):
        return self.reduction


def marking(marker):
    """Calls that would leave a marker file, each a way that a loader has been fooled by."""
    touch = f"open({str(marker)!r}, 'w').close()"
    state = (1, (1,), np.dtype("f8"), False, b"\0" * 8)
    return {
        "os.system": Reduced(os.system, (f"touch {marker}",)),
        "eval": Reduced(builtins.eval, (touch,)),
        "exec": Reduced(builtins.exec, (touch,)),
        "open": Reduced(builtins.open, (str(marker), "w")),
        "subprocess": Reduced(subprocess.check_call, (["touch", str(marker)],)),
        "numpy.load": Reduced(np.load, (str(marker),)),
        "numpy.save": Reduced(np.save, (str(marker), 1)),
        "getattr": Reduced(builtins.getattr, ("a", "upper")),
        "nested": Reduced(pickle.loads, (pickle.dumps(Reduced(os.system, (f"touch {marker}",))),)),
        "state": Reduced(
            np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (*state[:4], Reduced(eval, (touch,)))
        ),
        "argument": Reduced(np._core.multiarray._reconstruct, (Reduced(eval, (touch,)), (0,), b"b")),
        "dtype": Reduced(np.dtype, (Reduced(eval, (touch,)),)),
    }


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", sorted(marking("x")))
def test_nothing_that_a_pickle_asks_for_is_run(tmp_path, name, protocol):
    marker = tmp_path / "marker"
    hostile = marking(marker)[name]
    for content in ({"table": hostile}, hostile, {"table": TABLE, "deep": [({"a": hostile},)]}):
        with pytest.raises(RequestError) as caught:
            read_dictionary(npy(content, protocol))
        assert "\n" not in str(caught.value)
        if protocol in (3, 4):
            assert "nothing was run" in str(caught.value)
        assert not marker.exists()


def test_the_markers_would_have_been_seen(tmp_path):
    """The test above tests something: Python's own loader leaves the marker."""
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(marking(marker)["os.system"]))
    assert marker.exists()


RECONSTRUCT = np._core.multiarray._reconstruct
FINE = (RECONSTRUCT, (np.ndarray, (0,), b"b"))


@pytest.mark.parametrize(
    "value",
    [
        Reduced(RECONSTRUCT, (np.ndarray, (10**12,), b"b")),
        Reduced(RECONSTRUCT, (np.ndarray, (10**12,), b"b"), (1, (3,), np.dtype("f8"), False, b"\0" * 24)),
        Reduced(RECONSTRUCT, (np.dtype, (0,), b"b"), (1, (3,), np.dtype("f8"), False, b"\0" * 24)),
        Reduced(*FINE, (1, (10**12,), np.dtype("f8"), False, b"\0" * 24)),
        Reduced(*FINE, (1, (-3,), np.dtype("f8"), False, b"\0" * 24)),
        Reduced(*FINE, (1, (True,), np.dtype("f8"), False, b"\0" * 8)),
        Reduced(*FINE, (1, (1,) * 200, np.dtype("f8"), False, b"\0" * 8)),
        Reduced(*FINE, (1, (3,), np.dtype("f8"), False, "\0" * 24)),
        Reduced(*FINE, (1, (3,), np.dtype("f8"), 7, b"\0" * 24)),
        Reduced(*FINE, (1, (3,), "f8", False, b"\0" * 24)),
        Reduced(*FINE, (1, (3,), np.dtype("S8"), False, b"\0" * 24)),
        Reduced(*FINE, (1, (1,), np.dtype([("a", "f8")]), False, b"\0" * 8)),
        Reduced(*FINE, (2, (3,), np.dtype("f8"), False, b"\0" * 24)),
        Reduced(*FINE, ()),
        Reduced(*FINE),
        Reduced(np.dtype, ("f8" * 1000, False, True)),
        Reduced(np._core.multiarray.scalar, (np.dtype("f8"), b"\0" * 7)),
        Reduced(np._core.multiarray.scalar, (np.dtype("O"), b"\0" * 8)),
        Reduced(np._core.multiarray.scalar, ()),
        np.array([1, {}], dtype=object),
        np.array(["a", "b"]),
        np.array([1j]),
    ],
    ids=range(22),
)
def test_allowed_functions_with_other_arguments_are_refused(value):
    with pytest.raises(RequestError, match=r"no array of numbers|do not fit"):
        read_dictionary(npy({"a": value}))


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (b"\x80\x04Pid\n.", "PERSID"),
        (b"\x80\x04K\x01Q.", "BINPERSID"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x04(cos\nsystem\no.", "os.system"),
        (b"(S'true'\nios\nsystem\n.", "STRING|INST"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"\x80\x04\x8c\x05numpy\x8c\x04load\x93.", "numpy.load"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.", "numpy.ndarray.dumps"),
        (b"\x80\x04cnumpy\nndarray\n)\x81.", "NEWOBJ"),
        (b"\x80\x04cnumpy\nndarray\n)R.", "no function"),
        (b"\x80\x04cnumpy\ndtype\n)R}b}b.", "a state without an object"),
        (b"\x80\x04}}b.", "a state without an object"),
        (b"\x80\x04}K\x01K\x01s.", "in place of a name"),
        (b"\x80\x04}(\x8c\x01au.", "without a dictionary"),
        (b"\x80\x04K\x01K\x02a.", "without a list"),
        (b"\x80\x04K\x01(t.", "2 objects"),
        (b"\x80\x04(\x85.", "an object is missing"),
        (b"\x80\x04a.", "damaged"),
        (b"\x80\x04u.", "damaged"),
        (b"\x80\x04h\x05.", "damaged"),
        (b"\x80\x06N.", "PROTO"),
        (b"\x80\x04N", "damaged|no end"),
        (b"\x80\x04N.N", "1 bytes follow"),
        (b"\x80\x04B\xff\xff\xff\x7f..", "damaged"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f..", "damaged"),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN", "damaged|no end"),
        (b"\xff", "damaged"),
        (b"", "damaged|no end"),
    ],
)
def test_each_hostile_program_has_its_sentence(program, told):
    with pytest.raises(RequestError, match=told) as caught:
        read_pickle(program)
    assert "\n" not in str(caught.value)


def test_the_extension_registry_is_not_used(tmp_path):
    copyreg.add_extension("os", "system", 200)
    try:
        with pytest.raises(RequestError, match="EXT1"):
            read_pickle(b"\x80\x02\x82\xc8.")
    finally:
        copyreg.remove_extension("os", "system", 200)


def test_bombs_cost_nothing():
    tracemalloc.start()
    try:
        read_pickle(b"\x80\x04Nr\xff\xff\xff\x7f.")  # a memo of two billion places
        doubled = b"\x80\x04()\x94" + b"".join(b"h%ch%c\x86\x94" % (n, n) for n in range(60))
        assert len(read_pickle(doubled + b"t.")) == 61  # the last of them is a tree with 2**60 leaves
        with pytest.raises(RequestError, match="in place of a name"):
            read_pickle(doubled + b"}h\x3cNst.")  # hashing it would not end
        with pytest.raises(RequestError, match="something else"):
            read_dictionary(header("|O", ()) + b"\x80\x04]\x94h\x00a.")  # a list that holds itself
        with pytest.raises(RequestError, match="at most"):
            read_pickle(b"\x80\x04" + b"N" * MAX_BYTES)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (header("<f8", (3,), TABLE.tobytes()), r"an array \[3\] of float64; expected one dictionary"),
        (header("|O", (10**15,)), "expected one dictionary"),
        (header("|O", ()), "damaged|no end"),
        (npy([1]), "no dictionary"),
        (npy(3), "no dictionary"),
        (header("|O", (), pickle.dumps({"a": 1}, protocol=4)), "something else"),
        (npy({"a": 1})[:-1], "damaged|no end"),
        (npy({"a": 1}) + npy({"a": 1}), "bytes follow"),
        (b"\x93NUMPY", "header"),
        (b"\x93NUMPY\x03\x00" + npy({})[8:], r"header .*version \(3, 0\)"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 70000, "header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{", "header"),
        (b"\x93NUMPY\x01\x00\x00\x03" + b"(" * 768, "header"),
        (b"\x93NUMPY\x01\x00\x00\x03" + (b"-" * 700).ljust(767) + b"\n", "header"),
        (b"\x93NUMPY\x01\x00\x40\x00" + b"__import__('os').system('true')".ljust(63) + b"\n", "header"),
        (b"PK\x03\x04", "header"),
        (b"", "header"),
    ],
)
def test_other_files_have_their_sentence(data, told):
    with pytest.raises(RequestError, match=told) as caught:
        read_dictionary(data)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_read_or_refused_and_raise_nothing_else():
    whole = npy(ENTRIES)
    stream = io.BytesIO()
    np.savez_compressed(stream, a=TABLE, b=np.array(["x", "yy"]))
    archive = stream.getvalue()
    chance = random.Random(0)
    for data, read in ((whole, read_dictionary), (archive, read_archive)):
        for end in range(0, len(data), 3):
            with pytest.raises(RequestError):
                read(data[:end])
        for _ in range(1500):
            damaged = bytearray(data)
            for _ in range(chance.randint(1, 4)):
                damaged[chance.randrange(len(data))] = chance.randrange(256)
            with contextlib.suppress(RequestError):
                read(bytes(damaged))


def test_archives_of_objects_and_bombs_are_refused(tmp_path):
    stream = io.BytesIO()
    np.savez(stream, a=np.array([Reduced(os.system, (f"touch {tmp_path / 'marker'}",))], dtype=object))
    with pytest.raises(RequestError, match=r"'a.npy' is of type object; expected numbers or strings"):
        read_archive(stream.getvalue())
    assert not (tmp_path / "marker").exists()
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.zeros(2**24))
    with pytest.raises(RequestError, match=r"unpacks to 134\d+ bytes; expected at most"):
        read_archive(stream.getvalue())


def test_an_archive_that_hides_its_size_costs_no_memory():
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.zeros(2**24))
    size = (2**27 + 128).to_bytes(4, "little")
    hidden = stream.getvalue().replace(size, (200).to_bytes(4, "little"))
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match=r"cannot be read|do not fit"):
            read_archive(hidden)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
