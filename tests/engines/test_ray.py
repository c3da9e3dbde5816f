"""Ray's workers: the results of one process, also when workers are killed, and when the driver is."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch

from cokv_bench.cli import main
from cokv_bench.engines import Call, Workers
from cokv_bench.engines.slots import Host, cpus_each, default_workers
from cokv_bench.errors import RequestError
from cokv_bench.game.head_game import Game, make_game
from cokv_bench.game.profile import profile
from cokv_bench.game.stopping import Stopping
from cokv_bench.models import Model
from cokv_bench.models.spec import ModelSpec
from cokv_bench.policies import get_policy
from cokv_bench.runs.execute import execute
from cokv_bench.runs.journal import read_records, record_key
from cokv_bench.runs.plan import Plan, make_plan, variants_of
from cokv_bench.scores.tables import write_tables
from cokv_bench.tasks import Task
from cokv_bench.tasks.registry import TaskOptions, resolve

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'cokv-bench[ray]')")

from cokv_bench.engines.cluster import connect  # noqa: E402
from cokv_bench.engines.ray import RayWorkers  # noqa: E402
from cokv_bench.engines.worker import arriving  # noqa: E402

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def pool(texty_folder: Path) -> Iterator[RayWorkers]:
    """Two workers for all tests; those that are killed come back. All processes use one thread, to round alike."""
    patch = pytest.MonkeyPatch()
    patch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with RayWorkers(ModelSpec(str(texty_folder), device="cpu"), 2) as workers:
            yield workers
    finally:
        ray.shutdown()
        torch.set_num_threads(threads)
        patch.undo()


def plan_for(model: Model, **changes: Any) -> Plan:
    tasks = resolve(["needle", "ruler/vt"], model, TaskOptions(lengths=(900,), examples=6))
    budgets = [[20 + layer + head for head in range(model.kv_heads)] for layer in range(model.layers)]
    total = sum(map(sum, budgets)) // (model.layers * model.kv_heads)
    named = [get_policy(name) for name in ("full", "snapkv", "h2o")]
    # The total is exact where a head's mean is whole; here the last head takes the rest.
    budgets[-1][-1] += total * model.layers * model.kv_heads - sum(map(sum, budgets))
    closure = get_policy("cokv", budgets=lambda budget: budgets)
    return make_plan(
        model,
        tasks,
        {
            task.name: variants_of({each.name: lambda _, each=each: each for each in (*named, closure)}, [total])
            for task in tasks
        },
        [total],
        window=8,
        split="test",
        seed=0,
        settings={},
        profiled={},
        **changes,
    )


def without_seconds(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if not k.endswith("_seconds")} for record in read_records(folder)]


def process_ids(pool: RayWorkers) -> set[int]:
    """Processes of the workers that are ready; opens them anew."""

    def wait(_: None) -> int:
        time.sleep(0.3)
        return os.getpid()

    return {pid for _, pid in pool.open(lambda model: None).results(Call(n, wait) for n in range(8))}


def kill_one() -> None:
    """SIGKILL for a worker."""
    next(p for p in psutil.Process().children(recursive=True) if p.name().startswith("ray::Worker")).kill()


@pytest.fixture(scope="module")
def alone(texty: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    execute(plan_for(texty), folder)
    return folder


def test_records_equal_those_of_one_process(pool: RayWorkers, texty: Model, alone: Path, tmp_path: Path) -> None:
    execute(plan_for(texty), tmp_path, workers=pool)
    assert without_seconds(tmp_path) == without_seconds(alone)


def test_values_of_a_utility_equal_those_of_one_process(pool: RayWorkers, texty: Model, tmp_path: Path) -> None:
    plan = plan_for(texty, utility="loglik")
    execute(plan, tmp_path / "ray", workers=pool)
    execute(plan, tmp_path / "alone")
    assert without_seconds(tmp_path / "ray") == without_seconds(tmp_path / "alone")


def test_a_killed_workers_work_is_done_elsewhere(pool: RayWorkers, texty: Model, alone: Path, tmp_path: Path) -> None:
    before = process_ids(pool)
    assert len(before) == 2
    reported: list[int] = []

    def progress(done: int, total: int, note: str) -> None:
        reported.append(done)
        if done == 1:
            kill_one()

    execute(plan_for(texty), tmp_path, progress, workers=pool)
    assert without_seconds(tmp_path) == without_seconds(alone)
    lines = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert len({record_key(line) for line in lines}) == len(lines)
    assert reported == list(range(len(reported)))
    assert len(before - process_ids(pool)) == 1


def game_for(model: Model, workers: Workers | None) -> Game:
    tasks = resolve(["needle"], model, TaskOptions(lengths=(400,), examples=5))
    return make_game(model, tasks, "loglik", window=8, workers=workers, memory_limit=2**28)


def prefilled(game: Game) -> dict[int, list[int]]:
    """Numbers of the examples that each worker has prefilled, by process."""
    assert game.engine is not None
    calls = (Call(index, lambda game: (os.getpid(), sorted(game.questions))) for index in range(len(game.rows)))
    return dict(found for _, found in game.engine.results(calls))


@pytest.mark.parametrize("killed", [False, True])
def test_a_profile_is_the_same_to_the_byte(pool: RayWorkers, texty: Model, tmp_path: Path, killed: bool) -> None:
    at_least_two_steps = {"estimator": "cc", "sampling": "neyman", "seed": 5, "stopping": Stopping(samples=400)}
    profile(game_for(texty, None), tmp_path / "alone", **at_least_two_steps)
    game = game_for(texty, pool)
    reports = 0

    def progress(done: int, total: int | None, note: str) -> None:
        nonlocal reports
        reports += 1
        if killed and reports == 8:
            kill_one()

    profile(game, tmp_path / "ray", **at_least_two_steps, progress=progress)
    for name in ("ledger.jsonl", "values.json"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name
    if not killed:
        shares = prefilled(game)
        assert len(shares) == 2
        assert sorted(number for share in shares.values() for number in share) == list(range(len(game.rows)))


def test_calls_are_drawn_as_they_are_needed(pool: RayWorkers) -> None:
    drawn: list[int] = []

    def source() -> Iterator[Call[None]]:
        for number in range(12):
            drawn.append(number)
            yield Call(number, lambda _: None)

    results = pool.open(lambda model: None).results(source())
    next(results)
    assert len(drawn) <= 6
    assert len(list(results)) == 11


def test_errors_arrive_as_they_were_raised(pool: RayWorkers) -> None:
    def refuse(_: object) -> None:
        raise RequestError("No.")

    def fail(_: object) -> None:
        raise KeyError("broken call")

    with pytest.raises(RequestError) as refused:
        list(pool.open(lambda model: None).results([Call(0, refuse)]))
    assert type(refused.value) is RequestError
    assert str(refused.value) == "No."
    with pytest.raises(RequestError, match=r"^No\.$"):
        list(pool.open(refuse).results([Call(0, refuse)]))
    with pytest.raises(KeyError, match="broken call"):
        list(pool.open(lambda model: None).results([Call(0, fail)]))


def test_workers_that_die_again_and_again_end_the_run(pool: RayWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cokv_bench.engines.ray._DEATHS", 0)
    with pytest.raises(RequestError, match=r"1 workers have ended on the same example \(number 7\), most likely for"):
        list(pool.open(lambda model: None).results([Call(7, lambda _: os._exit(1))]))
    monkeypatch.undo()
    list(pool.open(lambda model: None).results([Call(7, lambda _: None)]))


def test_an_engine_that_was_replaced_is_refused(pool: RayWorkers) -> None:
    first = pool.open(lambda model: 1)
    pool.open(lambda model: 2)
    with pytest.raises(RuntimeError, match="opened again"):
        next(first.results([Call(0, lambda number: number)]))


def test_tasks_and_models_arrive(pool: RayWorkers, texty: Model, tmp_path: Path) -> None:
    row = {"input": "Who?", "context": "Ann. " * 40, "answers": ["Ann"], "all_classes": None, "length": 40}
    row |= {"dataset": "hotpotqa", "language": "en"}
    for name in ("hotpotqa", "own"):
        rows = [{**row, "_id": f"{number}"} for number in range(6)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    names = ["needle", "ruler/niah_single_1", "longbench/hotpotqa", f"jsonl:{tmp_path / 'own.jsonl'}"]
    tasks = resolve(names, texty, TaskOptions(data_dir=tmp_path, lengths=(300,), examples=4))
    wanted = [example for task in tasks for example in task.examples("all")]

    def make(model: Model, tasks: list[Task], driver: Model) -> tuple[list[Task], bool]:
        return tasks, model is driver

    call = Call(0, lambda held: ([example for task in held[0] for example in task.examples("all")], held[1]))
    ((_, (found, same)),) = pool.open(partial(make, tasks=tasks, driver=texty)).results([call])
    assert found == wanted
    assert same


def test_a_model_does_not_arrive_where_it_was_not_loaded() -> None:
    with pytest.raises(RuntimeError, match="has not loaded it"):
        arriving("texty")


def test_what_cannot_be_is_refused(pool: RayWorkers, texty_folder: Path) -> None:
    with pytest.raises(RequestError, match="Ray has 2 CPUs for workers, and 3 workers need one each"):
        RayWorkers(ModelSpec(str(texty_folder), device="cpu"), 3)
    with pytest.raises(RequestError, match="Ray has 0 GPUs"):
        RayWorkers(ModelSpec(str(texty_folder), device="cuda"), 1)
    with pytest.raises(RequestError, match="Ray sees no GPU on any of its hosts"):
        RayWorkers(ModelSpec(str(texty_folder), device="cuda"))
    with pytest.raises(RequestError, match="on cpu or cuda, not on 'meta'"):
        RayWorkers(ModelSpec(str(texty_folder), device="meta"))
    with pytest.raises(RequestError, match="leave '--device cuda:1' out"):
        RayWorkers(ModelSpec(str(texty_folder), device="cuda:1"), 1)


def test_the_memory_of_a_host_is_shared(pool: RayWorkers) -> None:
    limit = pool.memory_limit()
    assert limit is not None
    assert limit == pytest.approx(0.3 * psutil.virtual_memory().available, rel=0.3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--workers", "2"), "--workers 2 is for engines with workers; add --engine ray."),
        (("--address", "auto"), "--address auto is for engines with workers; add --engine ray."),
        (("--engine", "rya"), "did you mean ray?"),
    ],
)
@pytest.mark.parametrize("command", ["eval", "profile"])
def test_options_that_do_not_fit_are_refused(
    command: str,
    options: tuple[str, ...],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["cokv-bench", command, *options])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


def test_without_ray_its_installation_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cokv_bench.engines.check.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["cokv-bench", "eval", "--engine", "ray"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "pip install 'cokv-bench[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:port"])
def test_an_address_without_a_cluster_is_refused_at_once(address: str) -> None:
    with pytest.raises(RequestError, match=f"This process cannot join a Ray cluster at '{address}'"):
        connect(address)


def test_hosts_are_filled_one_by_one() -> None:
    wide, narrow = Host(cpus=8, gpus=1), Host(cpus=2, gpus=2)
    assert default_workers([wide, narrow], gpu=True) == 3
    assert default_workers([wide, narrow], gpu=False) == 2
    # Ten CPUs for two workers are five each by count, which the narrow host does not have: both go to the wide one.
    assert cpus_each([wide, narrow], 2, gpu=False) == 4
    assert cpus_each([wide, narrow], 2, gpu=True) == 2
    assert cpus_each([wide, narrow], 3, gpu=True) == 1
    with pytest.raises(RequestError, match="Ray has 3 GPUs for workers, and 4 workers need one each"):
        cpus_each([wide, narrow], 4, gpu=True)


def command(model: Path, out: Path, *options: str) -> list[str]:
    grid = ["--lengths", "800", "--depths", "24", "--method", "full,snapkv", "--budget", "32"]
    return ["eval", "--model", str(model), "--device", "cpu", *grid, "--out", str(out), *options]


def test_a_killed_driver_goes_on(texty_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = [sys.executable, "-c", "from cokv_bench.cli import main; main()"]
    on_ray = [*program, *command(texty_folder, tmp_path / "ray", "--engine", "ray", "--workers", "2")]
    records = tmp_path / "ray" / "records.jsonl"
    driver = subprocess.Popen(on_ray, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (records.exists() and records.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    started = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGKILL)
    driver.wait(10)
    kept = records.read_bytes()
    # Ray's two small agents look for their parent now and then only; what holds models and memory ends at once.
    # One worker may have written the first record before the other has started.
    names = {process: process.name().removesuffix(".run") for process in started}
    heavy = [process for process, name in names.items() if name in ("raylet", "gcs_server", "ray::Worker")]
    assert {names[process] for process in heavy} == {"raylet", "gcs_server", "ray::Worker"}
    assert psutil.wait_procs(heavy, timeout=20)[1] == []
    # The number of workers is no part of a run.
    again = subprocess.run([*on_ray[:-1], "1"], capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert records.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])
    assert 0 < kept.count(b"\n") < records.read_bytes().count(b"\n") == 2 * 24
    monkeypatch.setattr(sys, "argv", ["cokv-bench", *command(texty_folder, tmp_path / "alone")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    tables = [write_tables(tmp_path / name) for name in ("ray", "alone")]
    for name in tables[0]:
        pd.testing.assert_frame_equal(tables[0][name], tables[1][name])
    assert without_seconds(tmp_path / "ray") == without_seconds(tmp_path / "alone")
