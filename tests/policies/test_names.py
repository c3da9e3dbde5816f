"""Methods by what is written: options in the name, pairs of a ranking and a split, and one way to write each."""

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench.budgets import embedded, embedded_budgets, load_head_file
from cokv_bench.catalogue import check
from cokv_bench.errors import RequestError
from cokv_bench.policies import find_method, get_policy, register_policy
from cokv_bench.policies.allocators import Adaptive, AdaPyramid, ByShares, Pyramid, Uniform
from cokv_bench.policies.names import base, canonical, each_once, parse, place
from cokv_bench.policies.scorers import AccumulatedAttention, SinksRecency, WindowAttention
from cokv_bench.registries import METHODS
from cokv_bench.runs.methods import MethodSettings


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("snapkv", "snapkv"),
        ("snapkv:pooling=avg:kernel=011", "snapkv:kernel=11:pooling=avg"),
        (" snapkv : kernel = 11 ", "snapkv:kernel=11"),
        ("ada-snapkv:safeguard=.50", "ada-snapkv:safeguard=0.5"),
        ("cokv:alpha=10.0", "cokv:alpha=10"),
        ("pyramidkv:published-rounding=True", "pyramidkv:published_rounding=true"),
        ("window+adaptive", "window+adaptive"),
        ("snapkv:kernel=21 + ada-pyramid:beta=5", "snapkv:kernel=21+ada-pyramid:beta=5"),
        ("x:k=1e30", "x:k=1e30"),
        ("x:k=1_0", "x:k=1_0"),
    ],
)
def test_each_method_has_one_text(written: str, text: str) -> None:
    assert parse(written).text == canonical(written) == canonical(text) == text


@given(st.text("snapkv:=+10.e-,_ ", max_size=20))
def test_the_one_text_stays_what_it_is(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)
    try:
        found = parse(text)
    except RequestError:
        assert canonical(text) == text
    else:
        assert parse(found.text) == found


def test_two_spellings_count_once_and_stand_where_their_base_stands() -> None:
    names = ["snapkv:kernel=011", "full", "snapkv:kernel=11", "snapkv", "window+adaptive", "window + adaptive"]
    assert each_once(names) == ["snapkv:kernel=11", "full", "snapkv", "window+adaptive"]
    assert base("snapkv:kernel=11") == "snapkv"
    assert base("window+adaptive") == "window+adaptive"
    assert place("snapkv:kernel=11") == place("snapkv") == METHODS.keys().index("snapkv")
    assert place("window+adaptive") == place("unheard of") == len(METHODS)
    # What is not written like a method stays as it is, such as a name in an old record.
    assert base("search:layers") == canonical("search:layers") == "search:layers"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("snapvk:kernel=3", "Unknown method 'snapvk'; did you mean snapkv"),
        ("snapkv:kernel", "'kernel' in the method 'snapkv:kernel' is no option; write option=value"),
        ("snapkv:kernel=", "is no option"),
        ("snapkv:kernel=3:kernel=5", "has the option 'kernel' twice"),
        (":kernel=3", "lacks a name"),
        ("window+", "lacks a name"),
        ("window+adaptive+pyramid", "has 3 parts"),
        ("windw+adaptive", r"Unknown ranking of a pair \(scorer or method\) 'windw'; did you mean window"),
        ("window+adaptiv", r"Unknown split of a pair \(allocator or method\) 'adaptiv'; did you mean adaptive"),
        ("adaptive+window", "Unknown ranking of a pair"),
        ("full+adaptive", "is no ranking of a pair"),
        ("window+full", "is no split of a pair"),
        ("full:window=8", "'full' keeps all tokens and takes no options"),
    ],
)
def test_what_is_no_method_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        check("methods", [text])
    with pytest.raises(RequestError, match=said):
        get_policy(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "snapkv:kernl=3",
            "'snapkv' takes no option 'kernl' in a name; it takes kernel, observe, pooling, queries, sinks, window",
        ),
        ("snapkv:kernel=wide", "'kernel' of 'snapkv' takes a whole number, not 'wide'"),
        ("snapkv:kernel=1_1", "takes a whole number"),
        ("snapkv:kernel=4", "odd"),
        (f"snapkv:kernel={'1' * 5000}", "takes a whole number, not '111"),
        ("snapkv:pooling=sum", "takes max or avg, not 'sum'"),
        ("snapkv:window=0", "at least 1 token"),
        ("ada-snapkv:safeguard=nan", "takes a number, not 'nan'"),
        ("ada-snapkv:safeguard=2", r"share in \[0, 1\]"),
        ("ada-snapkv:published_rounding=1", "takes true or false, not '1'"),
        ("pyramidkv:beta=0", "must be 1 or more"),
        ("ada-pyramid:beta=0", "must be 1 or more"),
        ("cokv:alpha=0", "'alpha' of 'cokv' must be at least 1"),
        ("headkv:beta=0.5", "'beta' of 'headkv' must be at least 1"),
        ("headkv:alpha=3", "'headkv' takes no option 'alpha'"),
        ("cokv:budgets=3", "'cokv' takes no option 'budgets'"),
        ("window:safeguard=0+adaptive", "'window' takes no option 'safeguard'"),
        ("window+adaptive:kernel=3", "'adaptive' takes no option 'kernel'"),
        ("window+static", "'static' needs the option 'budgets'"),
    ],
)
def test_options_are_those_of_the_signature(text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        get_policy(text)


def test_what_names_make() -> None:
    made = get_policy("snapkv:pooling=avg:kernel=011:window=16")
    assert made.name == "snapkv:kernel=11:pooling=avg:window=16"
    assert (made.scorer, made.allocator, made.window) == (WindowAttention(11, "avg"), Uniform(), 16)
    pair = get_policy("window:window=4+adaptive:safeguard=0")
    assert (pair.scorer, pair.allocator, pair.window) == (WindowAttention(), Adaptive(0.0), 4)
    # Each side has its own options, whatever the other's method takes.
    both = get_policy("ada-pyramid:kernel=21+ada-pyramid:beta=5")
    assert (both.scorer, both.allocator) == (WindowAttention(21), AdaPyramid(beta=5))
    assert get_policy("pyramidkv:published_rounding=true").allocator == Pyramid(published_rounding=True)
    searched = get_policy("h2o+cokv-search")
    assert isinstance(searched.allocator, ByShares)
    assert searched.needs_accumulated_attention
    assert find_method("h2o+cokv-search").needs_accumulated_attention
    assert not find_method("window+adaptive").needs_accumulated_attention
    # The name comes before a keyword, and what it leaves open is the keyword's.
    assert get_policy("snapkv:kernel=11", kernel=3, pooling="avg").scorer == WindowAttention(11, "avg")
    assert get_policy("streaming-llm+pyramid:beta=2", sinks=8).scorer == SinksRecency(8)


def test_knobs_of_a_rule_reach_the_embedded_budgets() -> None:
    given = get_policy("cokv:alpha=30").allocator
    np.testing.assert_array_equal(given.budgets(64), embedded_budgets("cokv", {"alpha": 30})(64))
    assert not np.array_equal(given.budgets(64), get_policy("cokv").allocator.budgets(64))
    with pytest.raises(RequestError, match="Unknown method with embedded budgets 'snapkv'"):
        embedded_budgets("snapkv")


def test_knobs_of_a_name_reach_a_function_that_takes_them_and_are_refused_by_others() -> None:
    asked: list[Any] = []

    def taking(budget: int, *, knobs: Any) -> Any:
        asked.append(knobs)
        return embedded_budgets("cokv", knobs)(budget)

    given: Any = get_policy("cokv:alpha=30", budgets=taking).allocator
    np.testing.assert_array_equal(given.budgets(64), embedded_budgets("cokv", {"alpha": 30})(64))
    assert asked == [{"alpha": 30}]
    with pytest.raises(RequestError, match="says alpha, which the function that is given as budgets does not take"):
        get_policy("cokv:alpha=30", budgets=lambda budget: [[budget]])
    with pytest.raises(RequestError, match="by the label 'mine', which commands know"):
        get_policy("cokv-search:file=mine")


@pytest.mark.parametrize("pair", ["window+cokv-search", "h2o+cokv-search", "window+two-class", "damage:kernel=3+cokv"])
def test_a_pair_has_the_window_of_the_head_file_that_ships_as_in_a_run(pair: str) -> None:
    rule = "cokv" if pair.endswith("cokv") else "cokv-search"
    file = load_head_file(embedded.SHIPPED[rule]())
    source: Any = SimpleNamespace(ranking=file.ranking, tokens=file.tokens_at)
    in_a_run, here = MethodSettings().policy(pair, source), get_policy(pair)
    assert here.scorer == in_a_run.scorer
    assert here.within().window == in_a_run.window
    assert here.sinks == in_a_run.sinks


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("fading", {"half": "x"}, "a number, not 'x'"),
        ("ada-snapkv", {"safeguard": True}, "a number, not True"),
        ("pyramidkv", {"beta": math.nan}, "a whole number, not nan"),
        ("laq", {"draft": 2.5}, "a whole number, not 2.5"),
        ("expected", {"future": "many"}, "a whole number, not 'many'"),
        ("kvzip", {"part": None}, "a whole number, not None"),
        ("window+two-class", {"heads": 2.5}, "a whole number, not 2.5"),
        ("laq", {"queries": "most"}, "mean or max, not 'most'"),
        ("cokv", {"published_rounding": "no"}, "true or false, not 'no'"),
    ],
)
def test_values_of_another_kind_are_refused_in_python_as_in_a_name(
    name: str, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(RequestError, match=f"takes {expected}"):
        get_policy(name, **options)
    # Numbers of numpy are numbers, and what may be None may be.
    get_policy("laq", draft=np.int64(3), capacity=None)
    get_policy("ada-snapkv", safeguard=np.float32(0.5))


@dataclass(frozen=True)
class Counted:
    """A scorer with parameters of every kind."""

    wide: int
    share: float | None = None
    named: str = "a"
    whole: bool = False
    made: Callable[[], None] | None = None
    tried: ClassVar[Any] = {"wide": (3, 5), "share": (0.5, 0.1)}

    def __call__(self, prompt: Any) -> Any:
        return WindowAttention()(prompt)


@dataclass(frozen=True)
class OwnRule(Adaptive):
    """An allocator that reads CoKV's head files as well."""

    rule: ClassVar[str] = "cokv"
    budgets: Callable[[int], Any] | None = None


@pytest.mark.usefixtures("registries_restored")
def test_a_plug_in_method_has_options_knobs_and_head_files_by_what_its_classes_say() -> None:
    register_policy("counted", "a toy", Counted, OwnRule, wide=9)
    made = get_policy("counted:wide=7:share=.5:named=x y:whole=true")
    assert made.scorer == Counted(7, 0.5, "x y", True)
    assert made.scorer.tried is Counted.tried
    with pytest.raises(
        RequestError,
        match="takes alpha, file, named, observe, published_rounding, safeguard, share, sinks, whole, wide, wind",
    ):
        get_policy("counted:made=f")
    method = find_method("counted:share=0.1")
    assert method.rule == "cokv"
    # What the recipe gives is its published setting; what the name gives is not tried.
    assert method.tried["wide"] == (9, 3, 5)
    assert "share" not in method.tried
    assert method.tried["alpha"][:2] == (None, 1)
    assert method.tried["safeguard"][0] == 0.2
    register_policy("bare", "a toy", Counted, Uniform)
    with pytest.raises(RequestError, match=r"'bare' needs the option 'wide'; write bare:wide=\.\.\."):
        get_policy("bare")
    assert get_policy("bare:wide=2+uniform").scorer == Counted(2)


def test_what_is_tried_is_what_scorers_allocators_and_rules_declare() -> None:
    ranking = {"window", "observe", "kernel", "pooling"}
    window = {*ranking, "queries"}
    assert {name: set(find_method(name).tried) for name in METHODS} == {
        "full": set(),
        "streaming-llm": {"sinks"},
        "h2o": {"window"},
        "snapkv": window,
        "pyramidkv": {*window, "beta"},
        "ada-snapkv": {*window, "safeguard"},
        "ada-pyramid": {*window, "beta", "safeguard"},
        "headkv": {*window, "beta"},
        "cokv": {*window, "alpha"},
        "cokv-search": set(),
        "random": set(),
        "critical-ada": {*ranking, "safeguard"},
        "cake": {*ranking, "gamma", "tau1", "tau2"},
        "lava": {*ranking, "safeguard"},
    }
    assert find_method("headkv").tried["beta"][:2] == (None, 1.005)
    assert find_method("accumulated+pyramid").tried["window"] == AccumulatedAttention.tried["window"]
    assert set(find_method("streaming-llm+cokv-search").tried) == {"sinks"}
    assert set(find_method("snapkv:kernel=11").tried) == window - {"kernel"}


def test_names_are_checked_without_pytorch() -> None:
    code = (
        "import sys\n"
        "from cokv_bench.catalogue import check\n"
        "from cokv_bench.policies.names import each_once\n"
        "names = ['snapkv:kernel=11', 'window+adaptive', 'snapkv:kernel=21+ada-pyramid:beta=5']\n"
        "check('methods', names), each_once(names)\n"
        "print({'torch', 'transformers', 'scipy'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
