"""Calls on workers that Ray starts, on this machine or on a cluster, each with a model of its own."""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Generic, cast

# Read when Ray is imported: it shall neither report nor ask.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray import exceptions

from cokv_bench.engines.base import Call, Context
from cokv_bench.engines.cluster import PATIENCE, connect, hosts_alive
from cokv_bench.engines.slots import cpus_each, default_workers
from cokv_bench.engines.worker import Worker, arriving, departing
from cokv_bench.errors import RequestError, quoted
from cokv_bench.models import Model
from cokv_bench.models.spec import ModelSpec
from cokv_bench.models.threads import number_set
from cokv_bench.plugins import loaded

# Calls that a worker has at most, the one it runs included: the next one is there when it ends.
_QUEUE = 2
# Workers that one call, or the start, may take down with it.
_DEATHS = 3
# Of a host's free memory, for the games of its workers; see `make_game`.
_SHARE = 0.6

# What stands for the end of a worker or the loss of what it gave. All of it can be done again elsewhere.
_LOST = (
    exceptions.RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.ObjectLostError,
    exceptions.OutOfMemoryError,
)


class RayWorkers:
    """Workers that hold a model each: one a GPU, or some of the CPUs. Use it as a context manager.

    Models do not travel: a `Model` within a call or within what `open` is given becomes the worker's own on arrival.
    """

    def __init__(self, spec: ModelSpec, count: int | None = None, address: str | None = None) -> None:
        """Start the workers and let them load the model.

        Args:
            spec: the model; a folder must be there under the same path on every host.
            count: number of workers; default one a GPU, or one a host where the CPUs compute.
            address: of a running Ray cluster ("auto", or host:port of its head), to which this host must belong;
                default a Ray of its own on this machine. A Ray that this process has started already is used as it is.

        Raises:
            RequestError: no cluster at the address, fewer GPUs or CPUs than workers, or a device by its number.
        """
        if spec.device is not None and ":" in spec.device:
            raise RequestError(f"Each Ray worker gets its own GPU; leave '--device {spec.device}' out.")
        if spec.device not in (None, "cpu", "cuda"):
            raise RequestError(f"Ray workers compute on cpu or cuda, not on {quoted(spec.device)}.")
        self.spec = spec
        self._owned = not ray.is_initialized()
        self._actors: list[Any] = []
        self._engine: RayEngine[Any] | None = None
        if self._owned:
            connect(address)
        try:
            ray.util.register_serializer(Model, serializer=departing, deserializer=arriving)
            hosts = hosts_alive()
            self.gpu = spec.device != "cpu" and (spec.device is not None or any(host.gpus for host in hosts))
            count = default_workers(hosts, self.gpu) if count is None else count
            if count == 0:
                raise RequestError("Ray sees no GPU on any of its hosts; leave '--device cuda' out.")
            self._cpus = cpus_each(hosts, count, self.gpu)
            self._actors = [self._start() for _ in range(count)]
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._actors)

    def dtype(self) -> str:
        """Name of the type in which the workers compute, once the first has loaded its model.

        Raises:
            RequestError: the model cannot be loaded.
        """
        return cast(str, self._ask(self._actors[:1], "dtype")[0])

    def memory_limit(self) -> int | None:
        """Bytes for the prompts and batches of each worker's game, as one process would take of what is free.

        None on GPUs, where each worker sees what its own has free.
        """
        if self.gpu:
            return None
        found = self._ask(self._actors, "host_memory")
        sharing = Counter(host for host, _ in found)
        return int(_SHARE * min(free / sharing[host] for host, free in found))

    def open(self, make: Callable[[Model], Context]) -> "RayEngine[Context]":
        """An engine whose calls get what `make` gives on each worker. What an earlier engine held there is dropped."""
        engine = RayEngine(self, make)
        self._engine = engine
        return engine

    def serve(self, engine: "RayEngine[Any]") -> bool:
        """Whether the workers still hold what an engine's calls need."""
        return engine is self._engine

    def actor(self, place: int) -> Any:
        """Ray's handle of a worker."""
        return self._actors[place]

    def restart(self, place: int) -> Any:
        """A new worker in the place of one that ended."""
        with suppress(exceptions.RayError):
            ray.kill(self._actors[place])
        self._actors[place] = self._start()
        return self._actors[place]

    def close(self) -> None:
        """End the workers, and Ray itself if it was started for them."""
        for actor in self._actors:
            with suppress(exceptions.RayError):
                ray.kill(actor)
        self._actors = []
        if self._owned:
            ray.shutdown()

    def __enter__(self) -> "RayWorkers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> Any:
        # Rounding may differ with the number of threads, so a number that the user has set holds everywhere.
        threads = self.spec.threads or number_set() or self._cpus
        options = ray.remote(Worker).options(num_cpus=self._cpus, num_gpus=int(self.gpu))
        return options.remote(self.spec, os.getcwd(), threads, loaded())

    def _ask(self, actors: list[Any], question: str) -> list[Any]:
        try:
            return cast(list[Any], ray.get([getattr(actor, question).remote() for actor in actors]))
        except exceptions.RayTaskError as error:
            raise _cause(error) from None
        except _LOST as error:
            raise RequestError(_ended("A worker ended while it loaded the model", error)) from None


class RayEngine(Generic[Context]):
    """Runs calls on the workers. Calls of one number go to one worker as long as that lives.

    What a worker had to do when it ended is done by the others, and a new worker takes its place.
    """

    def __init__(self, workers: RayWorkers, make: Callable[[Model], Context]) -> None:
        self._workers = workers
        # In a list Ray hands the reference on as it is: the worker looks at it when its model is there.
        self._make = [ray.put(make)]
        self._home: dict[int, _Seat] = {}
        self._deaths: Counter[int | None] = Counter()
        self._seats = [_Seat(place, workers.actor(place)) for place in range(len(workers))]
        for seat in self._seats:
            seat.open(self._make)

    def results(self, calls: Iterable[Call[Context]]) -> Iterator[tuple[Call[Context], Any]]:
        """See `Engine.results`.

        Raises:
            RequestError: raised by a call, or workers end again and again.
        """
        if not self._workers.serve(self):
            raise RuntimeError("These workers were opened again for something else; open new ones for these calls.")
        source = iter(calls)
        for seat in self._seats:
            seat.drop()
        while True:
            self._deal(source)
            for seat in self._seats:
                seat.send()
            if not any(seat.load for seat in self._seats):
                return
            for reference in self._finished():
                asked = [seat for seat in self._seats if reference in seat.references()]
                if not asked:  # Of a worker whose end another reference has told already.
                    continue
                seat = asked[0]
                try:
                    value = ray.get(reference)
                except exceptions.RayTaskError as error:
                    raise _cause(error) from error
                except _LOST as error:
                    source = chain(self._replace(seat, error), source)
                    continue
                call = seat.finish(reference)
                self._deaths.pop(None if call is None else call.number, None)
                if call is not None:
                    yield call, value

    def _deal(self, source: Iterator[Call[Context]]) -> None:
        """Draw calls until each worker that is ready has enough of them; at the start, those that load count too."""
        there = [seat for seat in self._seats if seat.opening is None] or self._seats
        while min(seat.load for seat in there) < _QUEUE:
            call = next(source, None)
            if call is None:
                return
            if call.number not in self._home:
                homes = Counter(seat.place for seat in self._home.values())
                self._home[call.number] = min(there, key=lambda seat: (seat.load, homes[seat.place]))
            self._home[call.number].waiting.append(call)

    def _finished(self) -> list[Any]:
        """References that have something to tell, at least one.

        Raises:
            RequestError: all workers have ended and the cluster has no place for a new one.
        """
        awaited = [reference for seat in self._seats for reference in seat.references()]
        while True:
            found, _ = ray.wait(awaited, timeout=PATIENCE)
            if found:
                return cast(list[Any], found)
            if all(seat.opening is not None for seat in self._seats):
                gpu = self._workers.gpu
                if not any(host.holds(1, gpu) for host in hosts_alive()):
                    raise RequestError("Ray has no host left for a worker; start more hosts and run the command again.")

    def _replace(self, seat: "_Seat", error: Exception) -> list[Call[Context]]:
        """Start a worker anew; the calls that the old one still had."""
        culprit = seat.running_number()
        self._deaths[culprit] += 1
        if self._deaths[culprit] > _DEATHS:
            at = "while they loaded the model" if culprit is None else f"on the same example (number {culprit})"
            raise RequestError(_ended(f"{self._deaths[culprit]} workers have ended {at}", error))
        calls = seat.drop()
        self._home = {number: home for number, home in self._home.items() if home is not seat}
        seat.actor = self._workers.restart(seat.place)
        seat.open(self._make)
        return calls


@dataclass(eq=False)
class _Seat:
    """A worker's place as the driver sees it.

    Attributes:
        actor: Ray's handle of the worker.
        opening: reference of what makes it ready; None when it is.
        running: calls that were sent, by reference, in their order.
        waiting: calls to send.
    """

    place: int
    actor: Any
    opening: Any | None = None
    running: dict[Any, Call[Any]] = field(default_factory=dict)
    waiting: deque[Call[Any]] = field(default_factory=deque)

    @property
    def load(self) -> int:
        return len(self.running) + len(self.waiting)

    def open(self, make: list[Any]) -> None:
        self.opening = self.actor.open.remote(make)

    def send(self) -> None:
        while self.opening is None and self.waiting and len(self.running) < _QUEUE:
            call = self.waiting.popleft()
            self.running[self.actor.run.remote(call.run)] = call

    def references(self) -> list[Any]:
        return [*self.running] if self.opening is None else [self.opening]

    def finish(self, reference: Any) -> Call[Any] | None:
        """The call that a reference stood for; None for the opening."""
        if reference == self.opening:
            self.opening = None
            return None
        return self.running.pop(reference)

    def running_number(self) -> int | None:
        """Number of the call that the worker is at, if any."""
        return next((call.number for call in self.running.values()), None)

    def drop(self) -> list[Call[Any]]:
        """Forget all calls, and return them."""
        calls = [*self.running.values(), *self.waiting]
        self.running.clear()
        self.waiting.clear()
        return calls


def _cause(error: Any) -> Exception:
    """What a call raised, without Ray's wrapping."""
    return error.cause if isinstance(error.cause, Exception) else cast(Exception, error)


def _ended(what: str, error: Exception) -> str:
    return (
        f"{what}, most likely for want of memory: ask for fewer --workers, a smaller --memory-limit or shorter prompts "
        f"(Ray: {type(error).__name__}); what was done is kept."
    )
