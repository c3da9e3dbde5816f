"""The engine of one process: order, making the next call meanwhile, and errors from either side."""

import threading
from collections.abc import Iterator

import pytest

from cokv_bench.engines import Call
from cokv_bench.engines.local import LocalEngine, one_ahead


def test_calls_run_in_order_with_the_context() -> None:
    calls = [Call(number, lambda context, n=number: context + n) for number in (5, 3, 9)]
    assert [(call.number, result) for call, result in LocalEngine(100).results(calls)] == [(5, 105), (3, 103), (9, 109)]
    assert list(LocalEngine(0).results([])) == []


def test_the_next_is_made_while_one_is_in_use_and_no_further() -> None:
    made: list[int] = []
    second = threading.Event()

    def source() -> Iterator[int]:
        for number in range(4):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    items = one_ahead(source())
    assert next(items) == 0
    assert second.wait(10)
    assert made == [0, 1]
    assert list(items) == [1, 2, 3]


def test_an_error_in_making_or_running_reaches_the_caller() -> None:
    def source() -> Iterator[Call[int]]:
        yield Call(0, lambda _: "fine")
        raise ValueError("no second")

    results = LocalEngine(1).results(source())
    assert next(results)[1] == "fine"
    with pytest.raises(ValueError, match="no second"):
        next(results)

    def broken(_: int) -> None:
        raise KeyError("broken call")

    with pytest.raises(KeyError, match="broken call"):
        next(LocalEngine(1).results([Call(0, broken)]))


def test_a_caller_who_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    items = one_ahead(iter(range(1000)))
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
