"""Calls that decode together: each gives what it gives alone, whatever room there is."""

import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cokv_bench.engines import Call
from cokv_bench.engines.streaming import StreamingEngine
from cokv_bench.game.head_game import make_game
from cokv_bench.game.utilities import Case, PromptUtility, register_utility
from cokv_bench.kvcache import Generation, Prompt, Selection, decode, store, stream
from cokv_bench.kvcache.decoding import Work
from cokv_bench.kvcache.stream import Stream
from cokv_bench.models import Model
from cokv_bench.runs.execute import execute
from cokv_bench.runs.journal import read_records, record_key
from cokv_bench.runs.request import Request, plan_request
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.registry import TaskOptions, resolve
from tests.kvcache.test_stream import ask, attend
from tests.requests import request_of

MIB = 2**20


class Asking:
    """Work that asks for the answers of one prompt, and then for those of another."""

    def __init__(self, tokens: int, new: int) -> None:
        self.tokens, self.new = tokens, new

    def __call__(self, model: Model) -> list[Any]:
        return [ask(model, self.tokens + more, self.new, self.tokens).alone(model) for more in (0, 9)]

    def work(self, model: Model) -> Work[list[Any]]:
        first = yield ask(model, self.tokens, self.new, self.tokens)
        second = yield ask(model, self.tokens + 9, self.new, self.tokens)
        return [first, second]


def plain(model: Model) -> str:
    return "at once"


def calls() -> Iterator[Call[Model]]:
    for number in range(7):
        yield Call(number, plain if number == 3 else Asking(40 + 20 * number, (1, 5, 20)[number % 3]))


@pytest.mark.parametrize("memory", [10 * MIB, MIB // 2, 1024], ids=["all", "some", "none"])
def test_calls_give_what_they_give_alone(tiny_llama: Model, memory: int) -> None:
    engine = StreamingEngine(tiny_llama, tiny_llama, memory, attend)
    found = {call.number: result for call, result in engine.results(calls())}
    assert found == {call.number: call.run(tiny_llama) for call in calls()}


def test_what_cannot_be_streamed_is_decoded_alone(tiny_llama: Model) -> None:
    found = {call.number: result for call, result in StreamingEngine(tiny_llama, tiny_llama).results(calls())}
    assert not stream.serves(tiny_llama)
    assert found == {call.number: call.run(tiny_llama) for call in calls()}


def test_an_error_of_a_call_arrives(tiny_llama: Model) -> None:
    def broken(model: Model) -> None:
        raise ValueError("broken")

    engine = StreamingEngine(tiny_llama, tiny_llama, 10 * MIB, attend)
    with pytest.raises(ValueError, match="broken"):
        list(engine.results([*calls(), Call(9, broken)]))


@pytest.mark.parametrize("end", ["error", "nobody wants the rest"])
def test_an_engine_serves_again_after_an_early_end(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    on_their_way, begun = threading.Event(), list[int]()
    advance = Stream.advance

    def seen(self: Stream) -> Any:
        found = advance(self)
        on_their_way.set()
        return found

    def ends(model: Model) -> None:
        assert on_their_way.wait(60)
        if end == "error":
            raise ValueError("broken")

    def later(model: Model) -> None:
        begun.append(1)

    monkeypatch.setattr(Stream, "advance", seen)
    # Answers of which none ends before its limit.
    model = Model(tiny_llama.name, tiny_llama.network, tiny_llama.tokenizer, verdict=tiny_llama.verdict)
    model.__dict__["stop_ids"] = frozenset()
    engine = StreamingEngine(model, model, 10 * MIB, attend)
    results = engine.results([Call(0, Asking(60, 200)), Call(1, ends), *(Call(n, later) for n in range(2, 9))])
    if end == "error":
        with pytest.raises(ValueError, match="broken"):
            next(results)
    else:
        assert next(results)[0].number == 1
        results.close()
    assert len(begun) <= 2
    found = {call.number: result for call, result in engine.results(calls())}
    assert found == {call.number: call.run(model) for call in calls()}


def test_nobody_holds_a_prompt_whose_rows_have_joined(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[weakref.ref[Prompt]] = []
    alive: list[int] = []

    class One:
        def __call__(self, model: Model) -> Any:
            raise AssertionError("not alone")

        def work(self, model: Model) -> Work[int]:
            requests = [ask(model, 60, 30, 1)]
            prompts.append(weakref.ref(requests[0].prompt))
            answers = yield requests.pop()
            return len(answers)

    advance = Stream.advance

    def seen(self: Stream) -> Any:
        alive.append(sum(prompt() is not None for prompt in prompts))
        return advance(self)

    monkeypatch.setattr(Stream, "advance", seen)
    engine = StreamingEngine(tiny_llama, tiny_llama, 10 * MIB, attend)
    assert [found for _, found in engine.results([Call(0, One())])] == [8]
    assert alive == [0] * 4


class Streaming:
    """Workers of this process whose calls decode together, as they would on a GPU."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def open(self, make: Any) -> StreamingEngine[Any]:
        return StreamingEngine(self.model, make(self.model), 10 * MIB, attend)


def without_times(folder: Path) -> dict[Any, dict[str, Any]]:
    return {
        record_key(record): {name: value for name, value in record.items() if not name.endswith("_seconds")}
        for record in read_records(folder)
    }


def needles(agnostic: bool) -> Request:
    return request_of(
        ["needle"],
        ["full", "snapkv", "ada-snapkv", "streaming-llm"],
        [16, 32],
        options=TaskOptions(lengths=(300, 400), examples=2),
        encoding=Encoding(question_agnostic=agnostic),
    )


@pytest.mark.parametrize("agnostic", [False, True])
def test_a_run_has_the_records_of_one_example_at_a_time(texty: Model, tmp_path: Path, agnostic: bool) -> None:
    request = needles(agnostic)
    execute(plan_request(request, texty), tmp_path / "alone")
    execute(plan_request(request, texty), tmp_path / "together", workers=Streaming(texty))
    alone = without_times(tmp_path / "alone")
    assert len(alone) == 4 * 7
    assert without_times(tmp_path / "together") == alone


@pytest.mark.usefixtures("registries_restored")
def test_coalitions_have_the_values_of_one_example_at_a_time(texty: Model) -> None:
    def judge(case: Case, answers: Sequence[Generation]) -> list[float]:
        # Random weights score nothing; the letters that they say tell answers apart.
        return [float(sum(map(ord, answer.text))) for answer in answers]

    def measure(case: Case, selections: Sequence[Selection]) -> list[float]:
        return judge(case, decode(case.model, case.prompt, selections, max_new_tokens=case.example.max_new_tokens))

    register_utility(PromptUtility("letters", "what an answer says, as a number", measure, judge=judge))
    tasks = resolve(["needle"], texty, TaskOptions(lengths=(300,), examples=6))
    alone, together = (
        make_game(texty, tasks, "letters", window=8, workers=workers) for workers in (None, Streaming(texty))
    )
    members = np.random.default_rng(1).random((5, alone.players)) < 0.5
    found = [game.measure(game.coalitions(members)) for game in (alone, together)]
    assert np.array_equal(found[0], found[1])
    assert len(np.unique(found[0])) > 5


def test_an_example_on_its_way_holds_no_copy_of_a_prompt_in_the_file(
    texty: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = resolve(["needle"], texty, TaskOptions(lengths=(300,), examples=6))
    game = make_game(texty, tasks, "metric", window=8, memory_limit=1, spill_folder=tmp_path)
    # As if prompts in the file were used on another device.
    monkeypatch.setattr(store, "_placed", lambda there: replace(there.prompt, keys=list(there.prompt.keys)))
    spill = store._spill
    monkeypatch.setattr(
        store, "_spill", lambda *given: replace(spill(*given), devices=[torch.device("meta")] * texty.layers)
    )
    work = game.work(0, game.coalitions(np.ones((1, game.players), dtype=bool)))
    request = next(work)
    held, answers = weakref.ref(request.prompt), request.alone(texty)
    del request
    game.prompts.get(1)
    assert held() is None
    with pytest.raises(StopIteration) as end:
        work.send(answers)
    assert end.value.value == game.column(0, game.coalitions(np.ones((1, game.players), dtype=bool)))
