"""numpy's .npy and .npz files from strangers: arrays of numbers and dictionaries of them, and nothing is unpickled."""

import io
import math
import sys
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from cokv_bench.budgets.importers.pickle_data import DTYPE, NDARRAY, RECONSTRUCT, SCALAR, Call, Name, read_pickle
from cokv_bench.errors import RequestError

#: The most that the arrays of one archive may take; the published ones take 2 MB.
MAX_BYTES = 2**26
_MAX_HEADER = 1024
_MAX_DIMENSIONS = 3
_NUMBERS = frozenset({"f4", "f8", "i4", "i8", "u4", "u8"})
_READERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


def read_dictionary(data: bytes) -> dict[str, Any]:
    """The dictionary in a .npy file that `numpy.save(path, {...})` wrote.

    Args:
        data: the whole file.

    Returns:
        the dictionary; numpy arrays and scalars in it are numpy arrays and Python numbers.

    Raises:
        RequestError: the file holds something else, or a pickle of anything but numbers and plain containers.
    """
    dtype, shape, _, body = _split(data)
    if dtype != np.dtype(object) or shape != ():
        raise RequestError(f"The file holds an array {list(shape)} of {dtype}; expected one dictionary.")
    items = _state(read_pickle(body))
    if items is None or items[1] != () or not _is_dtype(items[2], "O8") or not isinstance(items[4], list):
        raise RequestError("The file holds a pickle of something else; expected one dictionary in a numpy array.")
    if len(items[4]) != 1 or not isinstance(items[4][0], dict):
        raise RequestError("The file holds no dictionary; expected one.")
    return {key: _plain(key, value) for key, value in items[4][0].items()}


def holds_numbers(data: bytes) -> bool:
    """Whether a .npy file holds an array of numbers. Raises `RequestError` where its header is damaged."""
    return _split(data)[0].kind in "fiu"


def read_numbers(data: bytes) -> NDArray[Any]:
    """The array of numbers in a .npy file that `numpy.save(path, array)` wrote.

    Raises:
        RequestError: the file holds something else, or more or fewer bytes than it says.
    """
    dtype, shape, fortran, body = _split(data)
    if dtype.kind not in "fiu":
        raise RequestError(f"The file holds an array {list(shape)} of {dtype}; expected numbers.")
    return _array(dtype, shape, fortran, body)


def read_archive(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file: numbers and strings only.

    Raises:
        RequestError: the file is no archive, damaged, holds objects, or would unpack to more than `MAX_BYTES`.
    """
    with _archive(data) as archive:
        size = sum(info.file_size for info in archive.infolist())
        if size > MAX_BYTES:
            raise RequestError(f"The archive unpacks to {size} bytes; expected at most {MAX_BYTES}.")
        return {info.filename.removesuffix(".npy"): _member(archive, info) for info in archive.infolist()}


def _archive(data: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise RequestError(f"The file is a damaged .npz archive ({error}); get it again.") from None


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    try:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NotImplementedError("a compression that numpy does not use")
        # With a length: without, a chunk unpacks to gigabytes before it is cut to the size that was declared.
        with archive.open(info) as stream:
            data = stream.read(info.file_size)
    # RuntimeError: encrypted; it includes NotImplementedError.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
        raise RequestError(f"The array {info.filename!r:.60} cannot be read ({error}); get the file again.") from None
    dtype, shape, fortran, body = _split(data)
    if dtype.kind not in "fiuU":
        raise RequestError(f"The array {info.filename!r:.60} is of type {dtype}; expected numbers or strings.")
    array = _array(dtype, shape, fortran, body)
    # numpy makes a Python string of any number, and Python's errors on those beyond Unicode are not made to be caught.
    if dtype.kind == "U" and np.frombuffer(body, f"{dtype.str[0]}u4").max() > sys.maxunicode:
        raise RequestError(f"The array {info.filename!r:.60} holds strings beyond Unicode; get the file again.")
    return array


def _split(data: bytes) -> tuple[np.dtype[Any], tuple[int, ...], bool, bytes]:
    """Type, shape, column order and the bytes after the header of a .npy file."""
    stream = io.BytesIO(data)
    try:
        version = npy_format.read_magic(stream)
        if version not in _READERS:
            raise ValueError(f"version {version}")
        shape, fortran, dtype = _READERS[version](stream, max_header_size=_MAX_HEADER)
    # numpy promises a ValueError, but a hostile header is Python source to it: MemoryError, RecursionError and more.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise RequestError(f"The header of the .npy data is damaged ({reason}); get the file again.") from None
    return dtype, shape, fortran, stream.read()


def _array(dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool, body: bytes) -> NDArray[Any]:
    """An array over bytes that are there: a shape can ask for no more than the file holds."""
    if (
        len(shape) > _MAX_DIMENSIONS
        or min(shape, default=0) < 0
        or not body
        or math.prod(shape) * dtype.itemsize != len(body)
    ):
        raise RequestError(f"An array {list(shape)} of {dtype} has {len(body)} bytes, which do not fit.")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")


def _plain(key: str, value: Any) -> Any:
    """An entry of the dictionary with the calls that spell arrays and scalars turned into these."""
    if not isinstance(value, Call):
        return value
    state = _state(value)
    if state is not None:
        _, shape, dtype, fortran, body = state
        number = _number_type(dtype)
        if number and isinstance(body, bytes) and isinstance(fortran, bool):
            return _array(number, shape, fortran, body)
    if value.function in SCALAR and len(value.arguments) == 2:
        number, body = _number_type(value.arguments[0]), value.arguments[1]
        if number and isinstance(body, bytes):
            return _array(number, (), False, body).item()
    raise RequestError(f"The entry {key[:40]!r} is no array of numbers as numpy writes them; it is not read.")


def _state(value: Any) -> tuple[Any, ...] | None:
    """(version, shape, dtype, column order, content) of a call that spells an array; None for anything else."""
    if not isinstance(value, Call) or value.function not in RECONSTRUCT:
        return None
    state = value.state
    if value.arguments != (Name(NDARRAY), (0,), b"b") or not isinstance(state, tuple) or len(state) != 5:
        return None
    if state[0] != 1 or not isinstance(state[1], tuple) or any(type(length) is not int for length in state[1]):
        return None
    return state


def _number_type(value: Any) -> np.dtype[Any] | None:
    for code in _NUMBERS:
        if _is_dtype(value, code):
            return np.dtype(value.state[1] + code)
    return None


def _is_dtype(value: Any, code: str) -> bool:
    """Whether a call spells this numpy dtype, of any byte order."""
    if not isinstance(value, Call) or value.function not in DTYPE or value.arguments != (code, False, True):
        return False
    state = value.state
    return isinstance(state, tuple) and state[:1] == (3,) and len(state) > 1 and state[1] in ("<", ">", "|", "=")
