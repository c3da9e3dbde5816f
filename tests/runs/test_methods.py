"""Methods of a run by what is written: options and pairs in records, comparisons and figures; knobs."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from cokv_bench.budgets import from_head_values
from cokv_bench.budgets.knobs import Knobs, Tried, Tuning
from cokv_bench.errors import RequestError
from cokv_bench.files import file_sha256
from cokv_bench.models import Model
from cokv_bench.policies import find_method, get_policy, register_policy
from cokv_bench.policies.allocators import Adaptive, Static, Uniform
from cokv_bench.policies.scorers import WindowAttention
from cokv_bench.report.layout import lay_out
from cokv_bench.report.methods import styles
from cokv_bench.runs.execute import execute
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.journal import read_records, read_run
from cokv_bench.runs.knobs import ChosenKnobs
from cokv_bench.runs.tuning import candidates, largest_window, tunable
from cokv_bench.scores.comparisons import choose_baselines
from cokv_bench.scores.tables import write_tables
from tests.requests import request_of
from tests.runs.planned import plan_for, policies, shares_of, values_of


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_pairs_and_options_are_methods_of_their_own_everywhere(texty: Model) -> None:
    asked = ("full", "snapkv", "snapkv:kernel=011", "snapkv:kernel=11", "window+adaptive", "h2o+pyramid:beta=2")
    plan = plan_for(texty, *asked, budgets=(20, 30))
    names = ["full", "snapkv", "snapkv:kernel=11", "h2o+pyramid:beta=2", "window+adaptive"]
    assert plan.configuration["methods"] == sorted(names)
    made = policies(plan)
    assert made["snapkv:kernel=11"].scorer == WindowAttention(11)
    assert made["window+adaptive"].allocator == Adaptive()
    execute(plan, Path("run"))
    records = read_records(Path("run"))
    # With their base in the order of the registry, pairs last.
    assert list(dict.fromkeys(record["method"] for record in records)) == names
    assert len(records) == plan.answers
    tables = write_tables(Path("run"), ["snapkv:kernel=0011"])
    assert set(tables["comparisons.csv"]["baseline"]) == {"snapkv:kernel=11"}
    assert set(tables["comparisons.csv"]["method"]) == set(names) - {"full", "snapkv:kernel=11"}
    assert tables["scores.csv"]["exact_total"].all()
    # Another spelling is the same run, and goes on with it.
    again = plan_for(texty, *reversed(asked), budgets=(20, 30))
    assert again.name == plan.name
    execute(again, Path("run"))
    assert read_records(Path("run")) == records
    # A pair of a method's own halves answers as the method does.
    twin = plan_for(texty, "window+uniform")
    execute(twin, Path("twin"))
    alone = {r["example"]: r["prediction"] for r in records if (r["method"], r["budget"]) == ("snapkv", 30)}
    assert {r["example"]: r["prediction"] for r in read_records(Path("twin"))} == alone


def test_a_window_in_a_name_is_part_of_the_budget_and_is_prefilled_for(texty: Model) -> None:
    plan = plan_for(texty, "snapkv", "snapkv:window=20")
    assert plan.window == 20
    assert [policies(plan)[name].window for name in ("snapkv", "snapkv:window=20")] == [8, 20]
    with pytest.raises(RequestError, match="beyond the observation window of 30"):
        request_of(["needle"], ["snapkv:window=30"], [30]).check()
    assert largest_window(["h2o:window=300", "random"], 8) == 300
    assert largest_window(["h2o"], 8, window=8) == 8


def test_the_name_comes_first_then_the_run_the_head_file_the_knobs_and_the_published_setting(texty: Model) -> None:
    values_of(texty).save(Path("values.json"))
    shares_of(texty).save(Path("shares.json"))
    heads = HeadSources(heads=(Path("values.json"), Path("shares.json")))
    sha256 = file_sha256(Path("values.json"))
    curves = {
        "snapkv": {30: [Tried({"window": 8, "kernel": 21, "pooling": "avg"}, -1.0), Tried({"window": 16}, -2.0)]},
        "snapkv:kernel=3": {30: [Tried({"window": 16, "pooling": "avg"}, -1.0)]},
        "cokv": {30: [Tried({"window": 8, "alpha": 2, "kernel": 3}, -1.0)]},
        "cokv-search": {30: [Tried({"kernel": 31}, -1.0)]},
        # A knob that the method does not take.
        "random": {30: [Tried({"kernel": 3}, -1.0)]},
    }
    tuning = Tuning(("elsewhere",), ("none",), ("none",), "loglik", curves, {"cokv": sha256})
    Knobs(texty.fingerprint, 8, False, {"needle": tuning}).save("knobs.json")

    def made(*methods: str, **changes: Any) -> dict[str, tuple[Any, ...]]:
        plan = plan_for(texty, *methods, heads=heads, knobs="knobs.json", **changes)
        found = policies(plan)
        return {name: (policy.window, policy.scorer) for name, policy in found.items()}

    searched = "window:kernel=7+cokv-search"
    names = ("snapkv", "snapkv:kernel=11", "snapkv:kernel=3", "snapkv:window=16", "cokv", "cokv-search", searched)
    found = made(*names, "window+uniform")
    assert found["snapkv"] == (8, WindowAttention(21, "avg"))
    assert found["snapkv:kernel=11"] == (8, WindowAttention(11, "avg"))
    # What was chosen for the very name comes before what was chosen for its base.
    assert found["snapkv:kernel=3"] == (16, WindowAttention(3, "avg"))
    # The best setting with the window of the name.
    assert found["snapkv:window=16"] == (16, WindowAttention(7, "max"))
    # Shares keep the ranking that they were searched with, unless the name or the run says otherwise.
    assert found["cokv-search"] == (16, WindowAttention(5, "avg"))
    assert found[searched] == (16, WindowAttention(7, "avg"))
    # A pair has its own knobs alone.
    assert found["window+uniform"] == (8, WindowAttention(7, "max"))
    asked = made(*names, kernel=31)
    assert {name: scorer.kernel for name, (_, scorer) in asked.items()} == {
        **dict.fromkeys(names, 31),
        "snapkv:kernel=11": 11,
        "snapkv:kernel=3": 3,
        searched: 7,
    }
    # Alpha: the name, then the run, then what was chosen, then the file.
    several = ("cokv", "cokv:alpha=1", "window+cokv")
    for zeroed, alphas in ((None, (2, 1, max(1, texty.layers * texty.kv_heads // 9))), (4, (4, 1, 4))):
        sources = replace(heads, zeroed=zeroed)
        plan = plan_for(texty, *several, "cokv-search", heads=sources, knobs="knobs.json")
        for name, alpha in zip(several, alphas, strict=True):
            wanted = from_head_values(values_of(texty).values, 30, window=8, zeroed=alpha)
            np.testing.assert_array_equal(policies(plan)[name].allocator.budgets(30), wanted)
        told = plan.configuration["head_budgets"]
        assert told["cokv"] == {"profile": sha256, "zeroed": zeroed}
        assert told["cokv:alpha=1"] == {"profile": sha256, "zeroed": 1}
        chosen = plan.configuration["knobs"]["chosen"]["needle"]
        assert chosen["cokv"] == {"30": {"window": 8, "zeroed": 2, "kernel": 3}}
        # Recorded is what applies.
        assert chosen["cokv:alpha=1"] == {"30": {"window": 8, "kernel": 3}}
        assert "window+cokv" not in chosen
    plan = plan_for(texty, "random", knobs="knobs.json")
    assert plan.configuration["knobs"]["chosen"] == {"needle": {}}


@pytest.mark.parametrize(
    ("methods", "asked", "told"),
    [
        (("full", "snapkv", "h2o"), None, "window 8"),
        (("lava", "cake"), None, "window 32"),
        (("full", "snapkv", "lava", "tova"), None, "each method's own window, 1 to 32 tokens"),
        (("snapkv:window=4", "lava:window=16", "cokv-search"), None, "each method's own window, 4 to 16 tokens"),
        (("snapkv", "lava", "tova"), 9, "window 9"),
    ],
)
def test_tables_tell_of_the_windows_that_methods_had(
    texty: Model, methods: tuple[str, ...], asked: int | None, told: str
) -> None:
    shares_of(texty).save("shares.json")
    files = (Path("shares.json"),) if "cokv-search" in methods else ()
    plan = plan_for(texty, *methods, budgets=(40,), window=asked, heads=HeadSources(heads=files))
    assert ("windows" in plan.configuration) == bool({"lava", "tova", "cake"} & {*methods} and asked is None)
    execute(plan, Path("run"))
    settings = read_run(Path("run"))["configuration"]
    assert settings == json.loads(json.dumps(plan.configuration))
    assert f"; {told}. Intervals" in lay_out(write_tables(Path("run")), settings).notes[0]


@dataclass(frozen=True)
class Doubled(Static):
    """A plug-in's allocator that reads CoKV's head files."""

    rule: ClassVar[str] = "cokv"


@dataclass(frozen=True)
class Unruled(Static):
    """One that reads files of a rule of its own."""

    rule: ClassVar[str] = "mine"


@dataclass(frozen=True)
class Narrow(WindowAttention):
    """A plug-in's scorer whose published kernel is another."""

    kernel: int = 3
    tried: ClassVar[Any] = {"kernel": (3, 5), "spread": (1.5, 2.5)}
    spread: float = 1.5


@pytest.mark.usefixtures("registries_restored")
def test_methods_of_plug_ins_read_head_files_and_are_tuned_by_what_they_declare(texty: Model) -> None:
    register_policy("doubled", "a toy", Narrow, Doubled)
    register_policy("unruled", "a toy", WindowAttention, Unruled)
    register_policy("wide", "a toy", WindowAttention, Uniform, kernel=21)
    values_of(texty).save(Path("values.json"))
    heads = HeadSources(heads=(Path("values.json"),))
    plan = plan_for(texty, "doubled:alpha=2", "wide", "snapkv", heads=heads)
    made = policies(plan)
    wanted = values_of(texty).budgets(30, window=8, zeroed=2)
    np.testing.assert_array_equal(made["doubled:alpha=2"].allocator.budgets(30), wanted)
    # Its own published kernel, not SnapKV's.
    assert [made[name].scorer.kernel for name in ("doubled:alpha=2", "wide", "snapkv")] == [3, 21, 7]
    with pytest.raises(RequestError, match=r"for 'unruled' .* make some with a rule of your own"):
        plan_for(texty, "unruled")
    assert tunable(["doubled", "cokv-search", "random", "full", "window+adaptive"]) == ["doubled", "window+adaptive"]
    assert candidates("doubled")["spread"] == (1.5, 2.5)
    # What was chosen for a knob of a plug-in can be saved and read.
    curves = {"doubled": {30: [Tried({"spread": 2.5, "kernel": 5}, -1.0)]}}
    tuning = Tuning(("elsewhere",), ("none",), ("none",), "loglik", curves)
    Knobs(texty.fingerprint, 8, False, {"needle": tuning}).save("knobs.json")
    told = policies(plan_for(texty, "doubled", heads=heads, knobs="knobs.json"))["doubled"].scorer
    assert (told.spread, told.kernel) == (2.5, 5)


def test_settings_of_methods_without_a_window_to_tune_serve_every_window() -> None:
    curves = {
        "streaming-llm": {64: [Tried({}, -2.0), Tried({"sinks": 16}, -1.0)]},
        "snapkv": {64: [Tried({"window": 8, "kernel": 21}, -1.0), Tried({"window": 16, "kernel": 11}, -2.0)]},
        "snapkv:window=16": {64: [Tried({"kernel": 7}, -2.0), Tried({"kernel": 31}, -1.0)]},
        # Of an earlier version, which tried no windows.
        "h2o": {64: [Tried({"kernel": 3}, -1.0)]},
    }
    knobs = Knobs({}, 8, False, {"needle": Tuning(("needle",), (), (), "loglik", curves)})
    for window in (None, 8, 16, 32):
        chosen = ChosenKnobs(knobs, window)
        assert chosen.options("streaming-llm", "needle", 64) == {"sinks": 16}
        assert chosen.options("snapkv:window=16", "needle", 64) == {"kernel": 31}
    assert ChosenKnobs(knobs, 16).options("snapkv", "needle", 64) == {"window": 16, "kernel": 11}
    assert ChosenKnobs(knobs, 32).options("snapkv", "needle", 64) == {}
    assert ChosenKnobs(knobs, 32).options("h2o", "needle", 64) == {}


def test_chosen_windows_leave_room_for_protected_tokens() -> None:
    curves = {"snapkv": {32: [Tried({"window": 8}, -2.0), Tried({"window": 32}, -1.0)]}}
    knobs = Knobs({}, 8, False, {"needle": Tuning(("needle",), (), (), "loglik", curves)})
    assert ChosenKnobs(knobs).options("snapkv", "needle", 36) == {"window": 32}
    assert ChosenKnobs(knobs, sinks=4).options("snapkv", "needle", 36) == {"window": 8}
    assert ChosenKnobs(knobs).options("snapkv:sinks=4", "needle", 36) == {"window": 8}
    assert ChosenKnobs(knobs, sinks=4).options("snapkv:sinks=0", "needle", 36) == {"window": 32}


def test_what_travels_to_workers_holds_no_model(texty: Model) -> None:
    values_of(texty).save(Path("values.json"))
    plan = plan_for(texty, "cokv", heads=HeadSources(heads=(Path("values.json"),)))
    rule: Callable[..., Any] = policies(plan)["cokv"].allocator.budgets.func
    held = [cell.cell_contents for cell in rule.__closure__ or ()]
    assert held
    assert not any(isinstance(each, Model) or isinstance(getattr(each, "model", None), Model) for each in held)


def test_baselines_and_colours_go_by_the_base() -> None:
    methods = ["full", "pyramidkv", "snapkv:kernel=11", "window+adaptive"]
    assert choose_baselines(methods) == ["snapkv:kernel=11"]
    assert choose_baselines([*methods, "snapkv"]) == ["snapkv"]
    assert choose_baselines(methods, ["snapkv:kernel=011", "pyramidkv"]) == ["snapkv:kernel=11", "pyramidkv"]
    with pytest.raises(RequestError, match="Unknown baseline 'snapkv'"):
        choose_baselines(methods, ["snapkv"])

    def numbers(*names: str) -> dict[str, int]:
        return styles(names)

    usual = numbers("snapkv", "h2o")
    assert numbers("snapkv:kernel=11", "h2o")["snapkv:kernel=11"] == usual["snapkv"]
    both = numbers("snapkv", "snapkv:kernel=11", "snapkv:kernel=3", "window+adaptive")
    assert both["snapkv"] == usual["snapkv"]
    assert len({both[name] for name in ("snapkv", "snapkv:kernel=11", "snapkv:kernel=3", "window+adaptive")}) == 4
    assert find_method("full").policy() == get_policy("full")
