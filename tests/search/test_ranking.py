"""Searches under other rankings than SnapKV's, several of them over one prompt, and shares that know theirs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cokv_bench.budgets import HeadBudgets, HeadShares
from cokv_bench.budgets.apportion import apportion
from cokv_bench.errors import RequestError
from cokv_bench.game.utilities import Case, get_utility
from cokv_bench.kvcache import prefill
from cokv_bench.models import Model
from cokv_bench.policies.allocators import Static
from cokv_bench.policies.policy import Policy
from cokv_bench.policies.registry import ranking_policy
from cokv_bench.registries import SCORERS
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.methods import MethodSettings
from cokv_bench.runs.plan import Plan
from cokv_bench.runs.request import plan_request
from cokv_bench.runs.sources import StaticBudgets
from cokv_bench.search import SearchExamples, SearchLimits, search, search_experts
from cokv_bench.search.examples import Point
from cokv_bench.search.gaps import Gaps
from cokv_bench.search.ledger import Ends
from cokv_bench.search.search import budget_file
from cokv_bench.tasks.prompts import Encoding, encode_parts
from cokv_bench.tasks.registry import TaskOptions, resolve
from tests.requests import request_of

RANKINGS = (
    *("window:kernel=3", "accumulated", "laq:draft=3"),
    *("window:sinks=2", "sinks-recent:sinks=2", "window:observe=20", "fading:observe=20"),
)


@pytest.mark.parametrize("agnostic", [False, True])
def test_every_ranking_scores_what_decoding_its_selection_does(texty: Model, agnostic: bool) -> None:
    encoding = Encoding(question_agnostic=agnostic)
    tasks = resolve(["needle"], texty, TaskOptions(lengths=(300,), examples=2))
    examples = SearchExamples(
        texty, tasks, ["loglik"], window=8, rankings=RANKINGS, budgets=(24, 40), encoding=encoding
    )
    shares = torch.randn(texty.layers, texty.kv_heads, generator=torch.Generator().manual_seed(1))
    task, example = examples.rows[1]
    encoded = encode_parts(texty, example, encoding)
    prompt = prefill(texty, encoded.prompt, window=32, question=encoded.question)
    case = Case(texty, task, example, prompt, question=tuple(encoded.question))
    for place, name in enumerate(RANKINGS):
        for budget in (24, 40):
            protected = 8 + (2 if "sinks" in name else 0)
            total = (budget - protected) * shares.numel()
            counts = protected + apportion(shares.double().exp().numpy(), total, prompt.tokens - protected)
            policy = ranking_policy(name, window=8)
            fixed = replace(policy, allocator=Static(lambda _, c=counts: c))
            (expected,) = get_utility("loglik").measure(case, [fixed.select(prompt, budget)])
            (found,) = examples.score([Point(1, budget, place)], [shares])
            assert found == pytest.approx(expected, abs=2e-4), (name, budget)


def test_shares_carry_their_ranking_and_a_pair_takes_the_file_of_its_own(
    texty: Model, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    tasks = resolve(["needle"], texty, TaskOptions(lengths=(300,), examples=4))
    for ranking in ("laq:draft=3", "window"):
        examples = SearchExamples(texty, tasks, ["loglik"], window=8, rankings=(ranking,), budgets=(24,))
        search(examples, Path(ranking[:3]), [24], seed=0, stopping=SearchLimits(steps=1))
    assert HeadShares.load("laq/shares.json").ranking["scorer"] == "laq:draft=3:observe=32"
    assert "scorer" not in json.loads(Path("win/shares.json").read_text())
    other = SearchExamples(texty, tasks, ["loglik"], window=8, rankings=("laq:draft=2",), budgets=(24,))
    with pytest.raises(RequestError, match="rankings"):
        search(other, Path("laq"), [24], seed=0, stopping=SearchLimits(steps=1))

    def policies(*files: str, methods: tuple[str, ...]) -> dict[str, Policy]:
        request = request_of(
            ("needle",),
            methods,
            (24,),
            options=TaskOptions(names=("needle",), lengths=(300,), examples=1, seed=9),
            heads=HeadSources(heads=tuple(map(Path, files))),
        )
        plan = plan_request(request, texty)
        return {variant.method: variant.policy for variant in plan.jobs[0].parts[0].variants}

    (own,) = policies("laq/shares.json", methods=("cokv-search",)).values()
    assert "draft=3" in repr(own.scorer)
    assert own.name == "cokv-search"
    both = policies("laq/shares.json", "win/shares.json", methods=("laq:draft=3+cokv-search", "window+cokv-search"))
    laq, window = HeadShares.load("laq/shares.json"), HeadShares.load("win/shares.json")
    for name, file in (("laq:draft=3+cokv-search", laq), ("window+cokv-search", window)):
        found = both[name].allocator.budgets(24)  # type: ignore[union-attr]
        np.testing.assert_array_equal(found, file.budgets(24, window=8))


def test_a_ranking_is_searched_as_it_ranks_where_nobody_says_otherwise(texty: Model) -> None:
    """DefensiveKV and CAKE average over 5 tokens, and fading queries do not pool."""
    tasks = resolve(["needle"], texty, TaskOptions(lengths=(300,), examples=2))
    names = ("window", "defensive", "cake", "oracle", "oracle:kernel=5", "fading")
    examples = SearchExamples(texty, tasks, ["loglik"], window=8, rankings=names)
    for policy, name in zip(examples._policies, names, strict=True):
        assert policy.scorer == ranking_policy(name).scorer, name
    own = [examples.pooled(place) for place in range(len(names))]
    kernels, poolings = ([each.get(name) for each in own] for name in ("kernel", "pooling"))
    assert kernels == [7, 5, 5, 11, 5, None]
    assert poolings[:3] == ["max", "avg", "avg"]
    asked = SearchExamples(texty, tasks, ["loglik"], window=8, rankings=("defensive", "oracle:kernel=5"), kernel=9)
    assert [policy.scorer.kernel for policy in asked._policies] == [9, 5]
    assert [asked.pooled(place)["kernel"] for place in (0, 1)] == [9, 5]


def deployed(name: str, pooled: dict[str, Any]) -> Policy:
    """As `eval` deploys shares that were searched under that ranking, which pools as told."""
    own = {} if name == "window" else {"scorer": name}
    made_for = {"window": 8, "kernel": 7, "pooling": "max", **pooled, **own}
    return MethodSettings().policy(
        "cokv-search", StaticBudgets(lambda budget, *, window, knobs: np.zeros(0), {}, (), (), made_for)
    )


WITH_OPTIONS = ("streaming-llm", "fading:observe=16", "laq:draft=2", "snapkv:observe=16", "window:sinks=3")
SINKS_FIRST = ("expected:sinks=8", "kvzip:sinks=2", "sinks-recent:sinks=8", "streaming-llm:sinks=3")


@pytest.mark.parametrize("name", [*SCORERS, *WITH_OPTIONS, *SINKS_FIRST])
def test_a_ranking_is_searched_as_it_is_deployed(texty: Model, name: str) -> None:
    tasks = resolve(["needle"], texty, TaskOptions(lengths=(300,), examples=2))
    examples = SearchExamples(texty, tasks, ["loglik"], window=8, rankings=(name,), budgets=(24,))
    (searched,), (spelled,) = examples._policies, examples.rankings
    for run in (deployed(name, examples.pooled(0)), deployed(spelled, examples.pooled(0))):
        assert (searched.scorer, searched.observe, searched.sinks) == (run.scorer, run.observe, run.sinks)
    assert (searched.sinks > 0) == ("sinks=" in name)


def test_a_search_says_how_many_queries_its_ranking_observes(texty: Model, tmp_path: Path) -> None:
    tasks = resolve(["needle"], texty, TaskOptions(lengths=(300,), examples=4))
    for ranking in ("fading", "fading:observe=32"):
        examples = SearchExamples(texty, tasks, ["loglik"], window=8, rankings=(ranking,), budgets=(24,))
        shares = search(examples, tmp_path, [24], seed=0, stopping=SearchLimits(steps=1))
        assert shares.scorer == "fading:observe=32"
    header = json.loads((tmp_path / "search.jsonl").read_text().splitlines()[0])
    assert header["rankings"] == ["fading:observe=32"] * 2


def test_a_ledger_without_the_protection_of_first_tokens_is_refused(texty: Model, tmp_path: Path) -> None:
    tasks = resolve(["needle"], texty, TaskOptions(lengths=(300,), examples=4))
    path = tmp_path / "search.jsonl"
    for ranking, known in (("sinks-recent:sinks=8", True), ("window:sinks=8", False)):
        examples = SearchExamples(texty, tasks, ["loglik"], window=8, rankings=(ranking,))
        search(examples, tmp_path, [24], seed=0, stopping=SearchLimits(steps=1))
        header, *lines = path.read_text().splitlines()
        assert ("protected" in json.loads(header)) == known
        earlier = {name: value for name, value in json.loads(header).items() if name != "protected"}
        path.write_text("\n".join([json.dumps(earlier), *lines, ""]))
        if known:
            with pytest.raises(RequestError, match=r"protected is absent there and \[8, 8\] here"):
                search(examples, tmp_path, [24], seed=0, stopping=SearchLimits(steps=1))
        path.unlink()


@pytest.mark.parametrize("ranking", ["window:sinks=4", "expected:sinks=4"])
def test_budget_files_of_a_search_with_protected_tokens_are_deployed(
    texty: Model, tmp_path: Path, ranking: str
) -> None:
    tasks = resolve(["needle"], texty, TaskOptions(lengths=(300,), examples=4))
    examples = SearchExamples(texty, tasks, ["loglik"], window=8, rankings=(ranking,))
    shares = search(examples, tmp_path, [24], seed=0, stopping=SearchLimits(steps=2))
    options = TaskOptions(names=("needle",), lengths=(300,), examples=1, seed=9)

    def found(file: str) -> Policy:
        heads = HeadSources(heads=(tmp_path / file,))
        asked = request_of(("needle",), ("cokv-search",), (24,), options=options, heads=heads)
        return plan_request(asked, texty).jobs[0].parts[0].variants[0].policy

    file = HeadBudgets.load(tmp_path / "cokv-search-24.budgets.json")
    assert file.sinks == 4
    for name in ("shares.json", "cokv-search-24.budgets.json"):
        policy = found(name)
        assert policy.sinks == 4
        np.testing.assert_array_equal(policy.allocator.budgets(24), file.tokens)  # type: ignore[union-attr]
    np.testing.assert_array_equal(shares.budgets(24, window=12), file.tokens)


def test_shares_searched_under_a_ceiling_make_no_method_of_it(texty: Model, tmp_path: Path) -> None:
    """The method would rank by the full cache's own answer, and tables would print it in bold."""
    shape = (1, texty.layers, texty.kv_heads)
    shares = HeadShares((24,), np.zeros(shape), 8, ("loglik",), ("x",), ("x",), texty.fingerprint, {}, scorer="oracle")
    shares.save(tmp_path / "shares.json")
    budget_file(shares, 24).save(tmp_path / "24.budgets.json")
    for name in ("shares.json", "24.budgets.json"):

        def plan(*methods: str, path: Path = tmp_path / name) -> Plan:
            options = TaskOptions(names=("needle",), lengths=(300,), examples=1)
            asked = request_of(("needle",), methods, (24,), options=options, heads=HeadSources(heads=(path,)))
            return plan_request(asked, texty)

        with pytest.raises(RequestError, match=r"a ceiling; write oracle\+cokv-search:window=8") as refused:
            plan("full", "cokv-search:window=8")
        assert len(str(refused.value)) <= 400
        pairs = ("oracle+cokv-search", "oracle:sinks=0+two-class", "window+cokv-search")
        assert plan(*pairs).configuration["methods"] == sorted(pairs)


def test_a_ranking_with_another_window_or_a_split_is_refused(texty: Model) -> None:
    tasks = resolve(["needle"], texty, TaskOptions(lengths=(300,), examples=2))
    with pytest.raises(RequestError, match="--window 16"):
        SearchExamples(texty, tasks, ["loglik"], window=8, rankings=("window:window=16",))
    with pytest.raises(RequestError, match="split of its own"):
        SearchExamples(texty, tasks, ["loglik"], window=8, rankings=("window+adaptive",))


def test_tasks_may_choose_that_no_step_follows_and_others_be_left_out(texty: Model, tmp_path: Path) -> None:
    options = TaskOptions(lengths=(900,), examples=3)
    tasks = resolve(["needle", "ruler/vt", "ruler/niah_single_1"], texty, options)
    examples = SearchExamples(texty, tasks, ["loglik"], window=8, choose_on=("ruler",))
    searched, chosen = examples.parts()
    assert {examples.groups[case] for case in searched} == {"needle loglik"}
    assert {examples.groups[case] for case in chosen} == {"ruler/vt loglik", "ruler/niah_single_1 loglik"}
    fewer = examples.without(["ruler/vt"])
    assert {fewer.groups[case] for case in fewer.parts()[1]} == {"ruler/niah_single_1 loglik"}
    shares = search(fewer, tmp_path / "fewer", [24], seed=0, stopping=SearchLimits(steps=1))
    assert set(shares.tasks) == {"needle", "ruler/niah_single_1"}
    assert not {example.id for task, example in examples.rows if task.name == "ruler/vt"} & set(shares.examples)
    with pytest.raises(RequestError, match="all are of ruler"):
        examples.without(["needle"]).parts()
    with pytest.raises(RequestError, match="none is of ruler"):
        examples.without(["ruler"])
    with pytest.raises(RequestError, match="No task of this search is 'longbench'"):
        SearchExamples(texty, tasks, ["loglik"], window=8, choose_on=("longbench",))


def test_what_is_left_out_plays_no_part_in_a_ledger(texty: Model, tmp_path: Path) -> None:
    """A search resumes whichever tasks are left out, and wherever they stand."""
    options = TaskOptions(lengths=(900,), examples=3)

    def searched(names: list[str], steps: int) -> HeadShares:
        examples = SearchExamples(texty, resolve(names, texty, options), ["loglik"], window=8)
        without = [name for name in names if name != "needle"]
        examples = examples.without(without) if without else examples
        return search(examples, tmp_path / "out", [24], seed=0, stopping=SearchLimits(steps=steps))

    searched(["ruler/vt", "needle"], 2)
    found = [searched(names, 2) for names in (["needle"], ["needle", "ruler/vt"], ["text", "needle"])]
    for shares in found[1:]:
        assert shares.search["gap_closed"] == found[0].search["gap_closed"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "search.jsonl").read_text().splitlines()]
    assert len(lines[1]["full"]) == len(lines[0]["examples"]) == len(found[0].examples)


def test_experts_are_searched_together_and_resume(texty: Model, tmp_path: Path) -> None:
    tasks = resolve(["needle", "text"], texty, TaskOptions(lengths=(300,), examples=4))

    def found(folder: Path, stop: int = 99) -> list[HeadShares]:
        examples = SearchExamples(texty, tasks, ["loglik"], window=8, rankings=("window", "accumulated"))

        def progress(done: int, total: int | None, note: str) -> None:
            if done >= stop:
                raise KeyboardInterrupt

        return search_experts(
            *(examples, folder, [20, 30]),
            rankings=[0, 1, 0],
            seed=1,
            stopping=SearchLimits(steps=26),
            progress=progress,
        )

    whole = found(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        found(tmp_path / "parts", stop=23)
    parts = found(tmp_path / "parts")
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one.tables, other.tables)
    assert [shares.scorer for shares in whole] == ["window", "accumulated", "window"]
    assert [shares.search["expert"] for shares in whole] == [1, 2, 3]
    assert not np.array_equal(whole[0].tables, whole[2].tables)
    kept = [HeadShares.load(tmp_path / "whole" / f"expert-{number}.shares.json") for number in (1, 2, 3)]
    assert kept[1].ranking["scorer"] == "accumulated"
    # The best of several experts closes at least what any of them does.
    examples = SearchExamples(texty, tasks, ["loglik"], window=8, rankings=("window", "accumulated"))
    cases = [case for case in examples.parts()[1] if examples.counts(case)]
    tables = [torch.tensor(shares.tables[0]).float() for shares in whole]
    scores = np.array(
        [
            examples.score([Point(case, 20, place) for case in cases], [table] * len(cases))
            for table, place in zip(tables, (0, 1, 0), strict=True)
        ]
    )
    full, even = ([f(case) for case in cases] for f in (examples.full, lambda case: examples.even(case, 20)))
    ends = Ends([None] * len(examples.groups), {"20": [None] * len(examples.groups)})
    for case, high, low in zip(cases, full, even, strict=True):
        ends.full[case], ends.uniform["20"][case] = high, low
    closed = Gaps(examples.groups, ends).closed_over(20, dict(zip(cases, scores.max(axis=0), strict=True)))
    told = whole[0].search["gap_closed"]["20"]
    assert told == pytest.approx(closed, abs=1e-3)
    with pytest.raises(RequestError, match="needs at least 2"):
        search_experts(examples, tmp_path / "one", [20], rankings=[0], seed=1, stopping=SearchLimits(steps=1))
