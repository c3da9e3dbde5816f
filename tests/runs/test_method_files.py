"""Which head files serve the methods of a run, what they are asked for, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cokv_bench.bench.plan import BenchRequest
from cokv_bench.budgets import HeadBudgets, HeadValues
from cokv_bench.errors import RequestError
from cokv_bench.files import file_sha256
from cokv_bench.models import Model
from cokv_bench.policies import get_policy
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.sources import refuse_unread
from cokv_bench.search.search import budget_file
from tests.requests import request_of
from tests.runs.planned import plan_for, policies, scores_of, shares_of, values_of


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("method", "asked", "sinks"),
    [
        ("cokv:sinks=4", None, 4),
        ("cokv", 5, 5),
        ("cokv:sinks=4", 100, 4),
        ("cokv:sinks=0", 100, 0),
        # A head that is given nothing would lose the tokens that this ranking puts first.
        ("sinks-recent:sinks=10+cokv", None, 10),
        ("sinks-recent+cokv", 10, 10),
        ("sinks-recent+cokv", None, 0),
        ("window+two-class", None, 4),
        ("window:sinks=0+two-class", 3, 0),
    ],
)
def test_head_budgets_are_made_for_what_the_method_protects(
    texty: Model, method: str, asked: int | None, sinks: int
) -> None:
    values = values_of(texty)
    values.save("values.json")
    policy = policies(plan_for(texty, method, heads=HeadSources(heads=(Path("values.json"),)), sinks=asked))[method]
    assert policy.sinks == sinks
    expected = values.tokens_at(30, window=8 + sinks)
    np.testing.assert_array_equal(policy.allocator.budgets(30), expected)


def test_files_of_all_kinds_go_by_one_name_and_by_the_earlier_ones(texty: Model) -> None:
    methods = ("cokv", "headkv", "cokv-search")
    values_of(texty).save(Path("p/values.json"))
    scores_of(texty).save(Path("scores.json"))
    shares_of(texty).save(Path("s/shares.json"))
    earlier = HeadSources(profiles=(Path("p"),), head_scores=Path("scores.json"), shares=Path("s"))
    one = HeadSources(heads=(Path("s"), Path("scores.json"), Path("p/values.json")))
    plans = [plan_for(texty, *methods, heads=heads) for heads in (earlier, one)]
    assert plans[0].configuration == plans[1].configuration
    assert plans[0].configuration["head_budgets"] == {
        "cokv": {"profile": file_sha256(Path("p/values.json")), "zeroed": None},
        "headkv": {"head_scores": file_sha256(Path("scores.json")), "beta": None},
        "cokv-search": {
            "shares": file_sha256(Path("s/shares.json")), "window": 16, "kernel": 5, "pooling": "avg",
        },
    }  # fmt: skip
    budgets = HeadBudgets(
        texty.fingerprint, 30, 8, values_of(texty).budgets(30, window=8, zeroed=1), {"text": "", "parameters": {}}
    )
    budgets.save("b.json")
    named = plan_for(texty, "cokv", "window+headkv", heads=HeadSources(heads=(Path("b.json"),)))
    same = {"files": {"30": file_sha256(Path("b.json"))}}
    assert named.configuration["head_budgets"] == {"cokv": same, "window+headkv": same}
    for policy in policies(named).values():
        np.testing.assert_array_equal(policy.allocator.budgets(30), budgets.tokens)


def test_several_scores_and_shares_serve_their_tasks_like_profiles(texty: Model) -> None:
    for name, tasks in (("a.json", ("needle",)), ("b.json", ("elsewhere",))):
        replace(shares_of(texty), tasks=tasks).save(name)
    heads = HeadSources(heads=(Path("a.json"), Path("b.json")))
    plan = plan_for(texty, "cokv-search", heads=heads)
    assert plan.configuration["head_budgets"]["cokv-search"]["shares"] == file_sha256(Path("a.json"))
    # A file that is named twice counts once; two of the same tasks do not tell which one serves.
    plan_for(texty, "cokv-search", heads=HeadSources(heads=(Path("a.json"), Path("a.json"))))
    replace(shares_of(texty), tasks=("needle",)).save("same.json")
    with pytest.raises(RequestError, match="for 'needle' 2 of the 2 are"):
        plan_for(texty, "cokv-search", heads=HeadSources(heads=(Path("a.json"), Path("same.json"))))


def test_labelled_files_serve_the_methods_that_name_them_side_by_side(texty: Model) -> None:
    shares = shares_of(texty)
    shares.save("a.json")
    replace(shares, tables=-shares.tables).save("b.json")
    values_of(texty).save("values.json")
    files = (Path("one=a.json"), Path("two=b.json"), Path("a.json"), Path("values.json"))
    methods = ("cokv-search:file=one", "cokv-search:file=two", "random+cokv-search:file=two", "cokv-search", "cokv")
    plan = plan_for(texty, *methods, heads=HeadSources(heads=files))
    used = {method: found.get("shares") for method, found in plan.configuration["head_budgets"].items()}
    first, second = file_sha256(Path("a.json")), file_sha256(Path("b.json"))
    assert used == dict(zip(methods, (first, second, second, first, None), strict=True))
    for asked, named, said in (
        (("cokv-search:file=one",), ("two=b.json",), "No method of this run names the head file 'two'"),
        (("cokv-search:file=one", "cokv"), ("values.json",), "No head file is labelled 'one'"),
        (("cokv-search",), ("one=a.json",), "No method of this run names the head file 'one'"),
        (("snapkv:file=one",), ("one=a.json",), "takes no option 'file'"),
        (("cokv-search:file=one",), ("one=none.json",), r"none\.json"),
    ):
        with pytest.raises(RequestError, match=said):
            plan_for(texty, *asked, heads=HeadSources(heads=tuple(map(Path, named))))
    # A label is the value of an option, which has one spelling.
    for label, spelling in (("01", "1"), ("1.0", "1"), ("True", "true"), ("1e3", "1000")):
        plan = plan_for(texty, f"cokv-search:file={label}", heads=HeadSources(heads=(Path(f"{label}=b.json"),)))
        assert plan.configuration["head_budgets"][f"cokv-search:file={spelling}"]["shares"] == second
    # A file whose name looks like a label and a file is that file.
    shares_of(texty).save("x=y.json")
    assert HeadSources(heads=(Path("x=y.json"),)).files == ((None, Path("x=y.json")),)


def test_a_budget_file_that_cannot_protect_tokens_is_refused_before_the_run(texty: Model) -> None:
    budget_file(shares_of(texty), 30).save("b.json")
    sources = HeadSources(heads=(Path("b.json"),))
    assert policies(plan_for(texty, "cokv-search", heads=sources))["cokv-search"].sinks == 0
    with pytest.raises(RequestError, match="use its own --window and --sinks"):
        plan_for(texty, "cokv-search", heads=sources, sinks=4)


def test_the_first_tokens_of_a_budget_file_are_protected_where_the_run_names_none(texty: Model) -> None:
    tokens = np.full((texty.layers, texty.kv_heads), 30)
    HeadBudgets(texty.fingerprint, 30, 8, tokens, {"text": "", "parameters": {}}, sinks=4).save("b.json")
    sources = HeadSources(heads=(Path("b.json"),))
    for method, asked in (("cokv", None), ("cokv", 4), ("cokv:sinks=4", None), ("window+headkv", None)):
        assert policies(plan_for(texty, method, heads=sources, sinks=asked))[method].sinks == 4
    for method, asked in (("cokv", 0), ("cokv", 2), ("cokv:sinks=0", None)):
        with pytest.raises(RequestError, match="use its own --window and --sinks"):
            plan_for(texty, method, heads=sources, sinks=asked)


def test_an_option_of_the_ranking_of_a_head_file_is_told_and_asked_for(texty: Model) -> None:
    """What a run asks for comes before its head files, whichever way they say it."""
    replace(shares_of(texty), scorer="window:kernel=11", kernel=11).save("s.json")
    sources = HeadSources(heads=(Path("s.json"),))
    for asked, used in ((None, 11), (3, 3)):
        plan = plan_for(texty, "cokv-search", heads=sources, kernel=asked)
        assert policies(plan)["cokv-search"].scorer.kernel == used
        # The file's hash stands for its own kernel.
        assert "kernel" not in plan.configuration["head_budgets"]["cokv-search"]
        assert plan.configuration["kernel"] == asked or asked is None
    fixed = policies(plan_for(texty, "cokv-search:kernel=5", heads=sources, kernel=3))
    assert fixed["cokv-search:kernel=5"].scorer.kernel == 5


def test_a_file_whose_ranking_does_not_pool_says_nothing_of_how_others_do(texty: Model) -> None:
    replace(shares_of(texty), scorer="fading:observe=32", window=4, kernel=7, pooling="max").save("fading.json")
    replace(shares_of(texty), scorer="damage:kernel=9", window=4, kernel=9, pooling="max").save("damage.json")
    pair = "defensive+cokv-search"
    for name, kernel, pooling in (("fading.json", 5, "avg"), ("damage.json", 9, "max")):
        policy = policies(plan_for(texty, pair, heads=HeadSources(heads=(Path(name),))))[pair]
        assert (policy.scorer.kernel, policy.scorer.pooling, policy.window) == (kernel, pooling, 4)


def test_two_classes_take_nothing_but_the_order_of_the_heads(texty: Model) -> None:
    sources = HeadSources(heads=(Path("s.json"),))
    shares_of(texty).save("s.json")
    found = policies(plan_for(texty, "window+two-class", "window", heads=sources))
    assert found["window+two-class"].scorer == found["window"].scorer
    assert found["window+two-class"].window == found["window"].window
    shipped, plain = get_policy("defensive+two-class"), get_policy("defensive")
    assert (shipped.scorer, shipped.window, shipped.observe) == (plain.scorer, plain.window, plain.observe)


def test_a_pair_with_a_further_option_takes_the_file_of_its_ranking_among_several(texty: Model) -> None:
    for name, scorer in (("fading", "fading:observe=32"), ("narrow", "fading:observe=32:window=4"), ("laq", "laq")):
        replace(shares_of(texty), scorer=scorer, window=8).save(f"{name}.json")
    for method, names, wanted in (
        ("fading:window=6+cokv-search", ("laq", "fading"), "fading"),
        ("fading:window=4+cokv-search", ("fading", "laq", "narrow"), "narrow"),
        ("fading+cokv-search", ("fading", "laq", "narrow"), "fading"),
    ):
        files = tuple(Path(f"{name}.json") for name in names)
        plan = plan_for(texty, method, heads=HeadSources(heads=files))
        assert plan.configuration["head_budgets"][method]["shares"] == file_sha256(Path(f"{wanted}.json"))


def test_knobs_that_change_nothing_are_refused(texty: Model) -> None:
    values_of(texty).save("v.json")
    from_values = HeadValues.load("v.json").budgets(30, window=8)
    rule = {"text": "by hand", "parameters": {"method": "cokv"}}
    HeadBudgets(texty.fingerprint, 30, 8, from_values, rule).save("b.json")
    counted, open_ = (HeadSources(heads=(Path(name),)) for name in ("b.json", "v.json"))
    for method, sources in (("cokv:alpha=3", counted), ("cokv", replace(counted, zeroed=3))):
        with pytest.raises(RequestError, match="has its tokens counted already, so alpha would change nothing"):
            plan_for(texty, method, heads=sources)
    assert policies(plan_for(texty, "cokv:alpha=3", heads=open_))
    for sources, told in ((replace(open_, beta=2.0), "reads --headkv-beta"), (HeadSources(zeroed=5), "reads --alpha")):
        with pytest.raises(RequestError, match=told):
            refuse_unread(["snapkv", "cokv"] if sources.beta else ["snapkv"], sources)


def test_head_files_that_no_method_reads_are_refused_before_a_model_is_there(texty: Model) -> None:
    values_of(texty).save(Path("values.json"))
    budgets = HeadBudgets(texty.fingerprint, 30, 8, np.full((3, 2), 30), {"text": "", "parameters": {}})
    budgets.save("b.json")
    for methods, heads, said in (
        (["snapkv"], {"heads": (Path("values.json"),)}, r"reads values\.json, a profile for 'cokv'"),
        (["full", "headkv"], {"profiles": (Path("values.json"),)}, "No method of this run reads"),
        (["snapkv"], {"heads": (Path("b.json"),)}, "a budget file for a method that reads head files"),
        (["cokv"], {"heads": (Path("none.json"),)}, r"none\.json"),
    ):
        with pytest.raises(RequestError, match=said):
            request_of(["needle"], methods, [30], heads=HeadSources(**heads)).check()
    # One that some method reads is fine, by whatever name that goes.
    for methods in (["cokv:alpha=1"], ["h2o+cokv", "snapkv"]):
        request_of(["needle"], methods, [30], heads=HeadSources(heads=(Path("values.json"),))).check()
    with pytest.raises(RequestError, match="No method of this run reads"):
        BenchRequest(("snapkv",), (30,), heads=(Path("values.json"),)).check()


def test_random_weights_take_any_kind_of_head_file_of_their_shape(texty: Model) -> None:
    other = {**texty.fingerprint, "weights": "0123", "id": "someone's"}
    replace(values_of(texty), model=other).save(Path("values.json"))
    asked = BenchRequest(("full", "cokv"), (30,), (40,), 4, heads=(Path("values.json"),))
    with pytest.raises(RequestError, match="another model"):
        asked.variants(texty)
    found = {each.key: each.policy for each in replace(asked, any_weights=True).variants(texty)}
    assert list(found) == [("full", None), ("cokv", 30)]
    wanted = values_of(texty).budgets(30, window=8)
    np.testing.assert_array_equal(found["cokv", 30].allocator.budgets(30), wanted)
