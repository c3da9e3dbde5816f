"""Calls that decode together on a CPU: each gives what it gives alone, whatever room there is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cokv_bench.engines import Call, LocalWorkers
from cokv_bench.engines.joint import JointEngine
from cokv_bench.engines.local import LocalEngine
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import Generation, joint
from cokv_bench.kvcache.decoding import Work
from cokv_bench.kvcache.joint import Joint
from cokv_bench.models import Model
from cokv_bench.runs.execute import execute
from cokv_bench.runs.request import plan_request
from tests.engines.test_streaming import Asking, calls, needles, without_times
from tests.kvcache.test_stream import ask


@pytest.mark.parametrize(("rows", "memory"), [(48, None), (48, 1), (9, None), (4, None)])
def test_calls_give_what_they_give_alone(
    tiny_llama: Model, rows: int, memory: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint, "ROWS", rows)
    found = list(JointEngine(tiny_llama, tiny_llama, memory).results(calls()))
    assert {call.number: result for call, result in found} == {c.number: c.run(tiny_llama) for c in calls()}
    assert len(found) == 7


def test_rows_of_several_prompts_share_steps(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """And never are there more of them than a step has room for."""
    seen: list[int] = []
    step = Joint._step

    def watched(self: Joint) -> None:
        seen.append(self.rows)
        step(self)

    monkeypatch.setattr(Joint, "_step", watched)
    list(JointEngine(tiny_llama, tiny_llama).results(calls()))
    # A request has eight rows, some of which keep the same.
    alone = len(ask(tiny_llama, 40, 5, 40).selections)
    assert alone < max(seen) <= joint.ROWS


def test_those_on_their_way_are_finished_before_an_error_arrives(tiny_llama: Model) -> None:
    def broken(model: Model) -> None:
        raise ValueError("broken")

    engine = JointEngine(tiny_llama, tiny_llama)
    found = engine.results([*calls(), Call(9, broken), Call(10, lambda model: pytest.fail("begun"))])
    assert sorted(next(found)[0].number for _ in range(7)) == list(range(7))
    with pytest.raises(ValueError, match="broken"):
        next(found)


def test_nothing_goes_on_after_a_step_that_failed(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows have read a token whose successor nobody knows."""
    chosen, steps = joint.most_likely, 0

    def fails(*arguments: Any) -> list[int]:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise RequestError("not finite")
        return chosen(*arguments)

    monkeypatch.setattr(joint, "most_likely", fails)
    engine = JointEngine(tiny_llama, tiny_llama)
    with pytest.raises(RequestError, match="not finite"):
        list(engine.results([Call(0, Asking(40, 20)), Call(1, Asking(60, 20))]))
    assert steps == 2


def test_an_error_of_the_source_arrives_last(tiny_llama: Model) -> None:
    def source() -> Iterator[Call[Model]]:
        yield from calls()
        raise ValueError("no more")

    found = JointEngine(tiny_llama, tiny_llama).results(source())
    assert sorted(next(found)[0].number for _ in range(7)) == list(range(7))
    with pytest.raises(ValueError, match="no more"):
        next(found)


@pytest.mark.parametrize("question", [(), (7, 8, 9)])
def test_answers_that_may_end_at_a_line(texty: Model, question: tuple[int, ...]) -> None:
    asked = [replace(ask(texty, tokens, 12, tokens, question), stop_at_newline=True) for tokens in (40, 60)]
    together = Joint(texty)
    names = [together.admit(request) for request in asked]
    found: dict[object, list[Generation]] = {}
    while len(found) < len(names):
        found.update(together.advance())
    assert [found[name] for name in names] == [request.alone(texty) for request in asked]


def test_what_decode_refuses_is_refused(tiny_llama: Model) -> None:
    class Long:
        def __call__(self, model: Model) -> Any:
            raise AssertionError("not alone")

        def work(self, model: Model) -> Work[Any]:
            return (yield ask(model, 40, tiny_llama.context, 1))

    with pytest.raises(RequestError, match="exceed the context"):
        list(JointEngine(tiny_llama, tiny_llama).results([Call(0, Long())]))


@pytest.mark.parametrize("agnostic", [False, True])
def test_a_run_has_the_records_of_one_example_at_a_time(texty: Model, tmp_path: Path, agnostic: bool) -> None:
    class Alone:
        def open(self, make: Any) -> LocalEngine[Any]:
            return LocalEngine(make(texty))

    request = needles(agnostic)
    plan = plan_request(request, texty)
    execute(plan, tmp_path / "alone", workers=Alone())
    execute(plan_request(request, texty), tmp_path / "together")
    assert isinstance(LocalWorkers(texty).open(lambda model: model), JointEngine)
    alone = without_times(tmp_path / "alone")
    assert len(alone) == 4 * 7
    assert without_times(tmp_path / "together") == alone
