"""Searches on a tiny model: they climb, go on where they were stopped, and refuse what cannot be searched."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cokv_bench.budgets import HeadBudgets, HeadShares
from cokv_bench.errors import RequestError
from cokv_bench.game.utilities import UTILITIES, Case, PromptUtility, register_utility
from cokv_bench.models import Model
from cokv_bench.search import SearchExamples, SearchLimits, search
from cokv_bench.search import prompts as module
from cokv_bench.search.climb import Climb, in_turn
from cokv_bench.search.examples import Point
from cokv_bench.search.gaps import Gaps
from cokv_bench.search.ledger import Ends, SearchLedger
from cokv_bench.tasks import Task
from cokv_bench.tasks.prompts import encode_parts
from cokv_bench.tasks.registry import TaskOptions, resolve


def material(model: Model, utility: str = "loglik", tasks: str = "needle", length: int = 300) -> SearchExamples:
    chosen = TaskOptions(lengths=(length,), examples=8)
    return SearchExamples(model, resolve(tasks.split(","), model, chosen), utility.split(","), window=8)


def few(model: Model) -> SearchExamples:
    return SearchExamples(
        model, resolve(["needle"], model, TaskOptions(lengths=(300,), examples=1)), ["loglik"], window=8
    )


def rounds(folder: Path) -> list[dict]:
    lines = (folder / "search.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


def merit(examples: SearchExamples, ends: Ends, cases: list[int], log_shares: np.ndarray) -> float:
    """Gain over gap at a budget of 24, over some cases."""
    scores = examples.score([Point(case, 24) for case in cases], [torch.tensor(log_shares)] * len(cases))
    return Gaps(examples.groups, ends).closed_over(24, dict(zip(cases, scores, strict=True)))


def tables(model: Model, folder: Path, **tables_: list[str]) -> list[Task]:
    """Tasks of rows, by name the contexts of each; a context that comes twice is one document with two questions."""
    folder.mkdir(exist_ok=True)
    for name, contexts in tables_.items():
        rows = [
            {"context": f"{context} " * 40, "input": f"{name} {place}?", "answers": [f"answer {place}"], "length": 9}
            for place, context in enumerate(contexts)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps({**row, "all_classes": None}) for row in rows))
    options = TaskOptions(template="{context} Q: {input} A:", metric="qa_f1")
    return resolve([f"jsonl:{folder / name}.jsonl" for name in tables_], model, options)


def documents(examples: SearchExamples, cases: list[int]) -> list[str]:
    return [examples.rows[case // len(examples.utilities)][1].document for case in cases]


@pytest.mark.parametrize("names", [("one",), ("one", "two")])
def test_held_out_examples_share_no_document_with_followed_ones(
    texty: Model, tmp_path: Path, names: tuple[str, ...]
) -> None:
    contexts = [f"text {place // 3}" for place in range(120)]
    tasks = tables(texty, tmp_path, **{name: contexts[:: 1 - 2 * place] for place, name in enumerate(names)})
    examples = SearchExamples(texty, tasks, ["agreement", "loglik"], window=8)
    searched, chosen = examples.parts()
    assert len(searched) + len(chosen) == len(examples.groups)
    assert not set(documents(examples, searched)) & set(documents(examples, chosen))
    new = list(dict.fromkeys(documents(examples, list(range(len(examples.groups))))))
    assert list(dict.fromkeys(documents(examples, chosen))) == new[1::4]
    if len(names) > 1:
        chooses = SearchExamples(texty, tasks, ["loglik"], window=8, choose_on=(tasks[1].name,))
        with pytest.raises(RequestError, match="needs at least two examples"):
            chooses.parts()


def test_what_shares_a_document_with_examples_to_choose_on_is_not_followed(texty: Model, tmp_path: Path) -> None:
    contexts = [f"text {place}" for place in range(60)]
    tasks = tables(texty, tmp_path / "tables", one=contexts, two=contexts[::2])
    examples = SearchExamples(texty, tasks, ["loglik"], window=8, choose_on=(tasks[1].name,))
    searched, chosen = examples.parts()
    assert {examples.groups[case] for case in searched} == {f"{tasks[0].name} loglik"}
    assert {examples.groups[case] for case in chosen} == {f"{tasks[1].name} loglik"}
    assert not set(documents(examples, searched)) & set(documents(examples, chosen))
    every = {example.document for _, example in examples.rows}
    assert {example.document for _, example in examples.used} == every
    assert len(examples.used) == len(searched) + len(chosen) == len(every)
    shares = search(examples, tmp_path / "out", [24], seed=0, stopping=SearchLimits(steps=1))
    assert list(shares.examples) == [example.id for _, example in examples.used]
    assert json.loads((tmp_path / "out" / "search.jsonl").read_text().splitlines()[0])["dealt"] == "documents"


def test_documents_of_what_is_left_out_are_not_followed_in_other_tasks(texty: Model, tmp_path: Path) -> None:
    contexts = [f"text {place}" for place in range(90)]
    tasks = tables(texty, tmp_path, one=contexts, two=contexts[::2], three=contexts[1::2])
    examples = SearchExamples(texty, tasks, ["loglik"], window=8).without([tasks[1].name])
    left_out = {example.document for task, example in examples.rows if task is tasks[1]}
    used = {example.document for _, example in examples.used}
    assert left_out
    assert used == {example.document for _, example in examples.rows} - left_out


def test_examples_with_documents_of_their_own_are_held_out_as_ever(texty: Model, tmp_path: Path) -> None:
    examples = material(texty, "agreement,loglik", "needle,ruler/vt", 900)
    seen: Counter[str] = Counter()
    for case, group in enumerate(examples.groups):
        assert (case in examples.parts()[1]) == (seen[group] % 4 == 1)
        seen[group] += 1
    search(examples, tmp_path, [24], seed=0, stopping=SearchLimits(steps=1))
    assert "dealt" not in json.loads((tmp_path / "search.jsonl").read_text().splitlines()[0])


@pytest.mark.parametrize("utility", ["loglik", "agreement,loglik", "acceptance"])
def test_a_search_writes_budgets_of_the_exact_total(texty: Model, tmp_path: Path, utility: str) -> None:
    examples = material(texty, utility)
    shares = search(examples, tmp_path, [24], seed=1, stopping=SearchLimits(steps=60))
    ledger = rounds(tmp_path)
    assert [line.get("step") for line in ledger[2:]] == [20, 40, 60]
    searched, chosen = examples.parts()
    rows = [{case // len(examples.utilities) for case in part} for part in (searched, chosen)]
    assert not rows[0] & rows[1]  # under no utility is an example in both parts
    assert len(rows[0] | rows[1]) == len(examples.rows)
    # At worst it falls back on equal shares, which close nothing, and never on less than the best round.
    ends = {name: value for name, value in ledger[1].items() if name in ("full", "uniform")}
    found, equal = (merit(examples, Ends(**ends), chosen, table) for table in (shares.tables[0], np.zeros((3, 2))))
    assert found >= max(0, *(line["chosen"]["24"] for line in ledger[2:])) - 1e-6
    assert equal == pytest.approx(0, abs=1e-5)
    assert shares.search["gap_closed"]["24"] == pytest.approx(found, abs=1e-5)
    file = HeadBudgets.load(tmp_path / "cokv-search-24.budgets.json")
    assert (file.total, file.method) == (24 * 6, "cokv-search")
    assert set(file.examples) == {example.id for _, example in examples.rows}
    np.testing.assert_array_equal(file.tokens, HeadShares.load(tmp_path / "shares.json").budgets(24, window=8))


@pytest.mark.parametrize("window", [8, 400])
def test_prompts_that_are_kept_whole_pull_at_nothing(texty: Model, tmp_path: Path, window: int) -> None:
    # Those of 300 tokens are below the budget, and below the second window.
    tasks = resolve(["needle"], texty, TaskOptions(lengths=(300, 900), examples=2))
    rankings = ("window", "window:sinks=20", "laq:draft=2")
    examples = SearchExamples(texty, tasks, ["loglik"], window=window, rankings=rankings, budgets=[500])
    shares = search(examples, tmp_path, [500], seed=0, stopping=SearchLimits(steps=2), ranking=1)
    assert HeadBudgets.load(tmp_path / "cokv-search-500.budgets.json").total == 500 * 6
    assert np.isfinite(shares.tables).all()
    for case in range(len(examples.groups)):
        if len(examples.rows[case][1].prompt) < 320:
            uneven = torch.arange(6.0).view(3, 2)
            scores = examples.score([Point(case, 500, ranking) for ranking in range(3)], [uneven] * 3)
            assert scores == pytest.approx([examples.full(case)] * 3, abs=1e-5)


def test_several_budgets_are_one_search(texty: Model, tmp_path: Path) -> None:
    shares = search(material(texty), tmp_path, [48, 16], seed=1, stopping=SearchLimits(steps=60))
    assert shares.knots == (16, 48)
    assert not np.array_equal(*shares.tables)
    for budget in (16, 48):
        assert HeadBudgets.load(tmp_path / f"cokv-search-{budget}.budgets.json").budget == budget
    assert set(shares.search["gap_closed"]) == {"16", "48"}
    # Each budget keeps the round that is best there, by its own factor.
    ledger = rounds(tmp_path)[2:]
    for place, budget in enumerate(("16", "48")):
        best = max(ledger, key=lambda line: line["chosen"][budget])
        assert shares.search["chosen_step"][budget] == best["step"]
        kept = np.array(best["average"][place], dtype=np.float32) * np.float32(shares.search["shrinkage"][budget])
        np.testing.assert_allclose(shares.tables[place], kept, rtol=1e-5, atol=1e-6)


def test_budgets_are_searched_side_by_side_as_each_would_be_alone(texty: Model, tmp_path: Path) -> None:
    alone, together = (
        search(material(texty), tmp_path / str(len(budgets)), budgets, seed=1, stopping=SearchLimits(steps=20))
        for budgets in ([24], [24, 48])
    )
    np.testing.assert_allclose(together.tables[0], alone.tables[0], rtol=1e-3, atol=1e-3)


def test_a_stopped_search_goes_on_as_one_that_never_was(texty: Model, tmp_path: Path) -> None:
    whole = search(material(texty), tmp_path / "whole", [24], seed=2, stopping=SearchLimits(steps=50))

    class Killed(Exception):
        pass

    def stop_at(limit: int) -> Callable[[int, int | None, str], None]:
        def progress(done: int, total: int | None, note: str) -> None:
            if done == limit:
                raise Killed

        return progress

    for limit in (0, 3, 25, 41):
        with pytest.raises(Killed):
            search(
                material(texty),
                tmp_path / "parts",
                [24],
                seed=2,
                stopping=SearchLimits(steps=50),
                progress=stop_at(limit),
            )
    path = tmp_path / "parts" / "search.jsonl"
    path.write_bytes(path.read_bytes()[:-7])  # a torn last line
    parts_ = search(material(texty), tmp_path / "parts", [24], seed=2, stopping=SearchLimits(steps=50))
    assert rounds(tmp_path / "parts") == rounds(tmp_path / "whole")
    np.testing.assert_array_equal(parts_.tables, whole.tables)


def test_other_settings_or_another_file_are_refused(texty: Model, tmp_path: Path) -> None:
    search(material(texty), tmp_path, [24], seed=2, stopping=SearchLimits(steps=1))
    with pytest.raises(
        RequestError, match=r"other settings: budgets is \[24\] there and \[32\] here; seed is 2 there and 3 here; use"
    ):
        search(material(texty), tmp_path, [32], seed=3, stopping=SearchLimits(steps=1))
    path = tmp_path / "search.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"followed"', b'"swallowed"'))
    with pytest.raises(RequestError, match="line 3 is not the round of a search; the file is damaged"):
        search(material(texty), tmp_path, [24], seed=2, stopping=SearchLimits(steps=1))
    for text, said in (
        ("hello\n", "does not begin with the header of a search-ledger"),
        ('{"kind": "diary"}\n', "header of a search-ledger"),
        ("h", "header of a search-ledger"),
    ):
        path.write_text(text)
        with pytest.raises(RequestError, match=said):
            search(material(texty), tmp_path, [24], seed=2, stopping=SearchLimits(steps=1))
        assert path.read_text() == text


def test_a_search_goes_on_with_its_own_template_alone(texty: Model, worded: Model, tmp_path: Path) -> None:
    search(material(texty), tmp_path, [24], seed=2, stopping=SearchLimits(steps=1))
    with pytest.raises(RequestError, match=r"other settings: reading.chat_template is .* there and .* here"):
        search(material(worded), tmp_path, [24], seed=2, stopping=SearchLimits(steps=1))


def test_time_ends_a_search_of_two_tasks(texty: Model, tmp_path: Path) -> None:
    examples = material(texty, tasks="needle,ruler/vt", length=900)
    shares = search(examples, tmp_path, [24], seed=2, stopping=SearchLimits(seconds=0.01))
    assert shares.search["steps"] == 1
    assert shares.tasks == ("needle", "ruler/vt")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda model, folder: material(model, "metric"), "has no gradient"),
        (lambda model, folder: SearchLimits(steps=0), "0 steps"),
        (lambda model, folder: SearchLimits(seconds=-1.0), "time limit is -1"),
        (
            lambda model, folder: search(material(model), folder, [8], seed=0, stopping=SearchLimits(steps=1)),
            "nothing beyond the observation window of 8",
        ),
        (
            lambda model, folder: search(material(model), folder, [24, 900], seed=0, stopping=SearchLimits(steps=1)),
            "900 tokens keeps all of every prompt",
        ),
        (lambda model, folder: search(material(model), folder, [], seed=0, stopping=SearchLimits()), "needs a budget"),
        (lambda model, folder: few(model).parts(), "to choose on; of the 1 at hand, no two are"),
    ],
)
def test_what_cannot_be_searched_is_refused(texty: Model, tmp_path: Path, call: Callable, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        call(texty, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_prompts_that_are_left_out_do_not_make_a_budget_small(texty: Model, tmp_path: Path) -> None:
    short = tables(texty, tmp_path / "tables", short=[f"text {place}" for place in range(40)])
    needles = resolve(["needle"], texty, TaskOptions(lengths=(900,), examples=4))
    examples = SearchExamples(texty, [*needles, *short], ["loglik"], window=8)
    left = [row for task, row in examples.rows if task.name != "needle"]
    longest = max(len(encode_parts(texty, row, examples.encoding).prompt) for row in left)
    assert longest < 600
    with pytest.raises(RequestError, match=f"600 tokens keeps all of every prompt .the longest has {longest}"):
        search(examples.without(["needle"]), tmp_path / "out", [600], seed=0, stopping=SearchLimits(steps=1))


@pytest.mark.parametrize("ranking", ["window:sinks=16", "expected:sinks=16"])
def test_a_budget_that_protected_first_tokens_take_up_is_refused_before_any_prompt_is_read(
    texty: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranking: str
) -> None:
    tasks = resolve(["needle"], texty, TaskOptions(lengths=(300,), examples=4))
    examples = SearchExamples(texty, tasks, ["loglik"], window=8, rankings=("window", ranking))
    monkeypatch.setattr(module, "prefill", None)
    with pytest.raises(RequestError, match=r"window of 8 and the 16 protected first tokens.*ask for at least 25"):
        search(examples, tmp_path, [24], seed=0, stopping=SearchLimits(steps=1), ranking=1)


@pytest.mark.parametrize(("single", "purpose"), [(0, "optimise on"), (1, "choose on")])
def test_answers_that_no_budget_changes_are_refused_before_the_first_step(
    texty: Model, tmp_path: Path, single: int, purpose: str
) -> None:
    one, two = (tables(texty, tmp_path / name, **{name: [f"{name} {i}" for i in range(40)]}) for name in ("a", "b"))
    tasks = [*one, *two]

    def answer(case: Case) -> list[int]:
        return [5] if case.task.name == tasks[single].name else [5, 6, 7]

    steps = []
    register_utility(PromptUtility("fixed", "", lambda case, choices: [], answer=answer))
    try:
        examples = SearchExamples(texty, tasks, ["fixed"], window=8, choose_on=(tasks[1].name,))
        for _ in range(2):
            with pytest.raises(RequestError, match=f"any example to {purpose}, since all these answers have a single"):
                search(
                    *(examples, tmp_path / "out", [24]),
                    seed=0,
                    stopping=SearchLimits(steps=40),
                    progress=lambda done, total, note: steps.append(done),
                )
        assert set(steps) == {0}
    finally:
        del UTILITIES["fixed"]


@pytest.mark.model
@pytest.mark.timeout(300)
def test_half_a_minute_finds_what_equal_shares_lose(embedded: Model, tmp_path: Path) -> None:
    tasks = resolve(["needle"], embedded, TaskOptions(lengths=(400,), examples=8))
    examples = SearchExamples(embedded, tasks, ["loglik"], window=8)
    shares = search(examples, tmp_path, [32], seed=0, stopping=SearchLimits(steps=10))
    # On needles that no step followed; equal shares close nothing and the full cache everything.
    assert shares.search["gap_closed"]["32"] > 0.5


def test_benchmarks_take_turns_however_many_tasks_they_have() -> None:
    benchmarks = [[[0, 1, 2]], [[10], [20, 21], [30]]]
    visits = Counter(in_turn(benchmarks, number, 0) for number in range(72))
    assert visits == {0: 12, 1: 12, 2: 12, 10: 12, 20: 6, 21: 6, 30: 12}
    assert {in_turn(benchmarks, number, 0) // 10 > 0 for number in (8, 9)} == {True, False}


@pytest.fixture
def climb(texty: Model, tmp_path: Path) -> Iterator[Climb]:
    """Three experts on two tasks under two utilities, at the start."""
    examples = material(texty, "agreement,loglik", "needle,ruler/vt", 900)
    header = {"budgets": [24, 48], "model": texty.fingerprint, "rankings": ["window"] * 4}
    with SearchLedger.resume(tmp_path / "search.jsonl", header) as ledger:
        yield Climb(
            examples, ledger, [24, 48], 0, SearchLimits(steps=4), (0, 0, 0), lambda done, total, note: None, 0.0
        )


@pytest.mark.parametrize("step", [0, 99])
def test_an_example_is_followed_by_one_expert_under_all_utilities(climb: Climb, step: int) -> None:
    cases = climb.examples.counted
    every = [(case, budget) for case in cases for budget in (24, 48)]
    parameters = torch.randn(6, 3, 2, generator=torch.Generator().manual_seed(0)) * 3
    groups = list(climb.gaps.members(cases).values())
    serving = climb._serving(parameters, step, every, groups)
    of_example: dict[tuple[int, int], set[int]] = {}
    for (case, budget), expert in zip(every, serving, strict=True):
        of_example.setdefault((case // 2, budget), set()).add(expert)
    assert {len(experts) for experts in of_example.values()} == {1}
    assert len(set(serving)) > 1
    tasks = {climb.examples.groups[case].split()[0]: expert for (case, _), expert in zip(every, serving, strict=True)}
    if step == 0:
        assert list(tasks.values()) == [0, 1]
        return
    # Asked for one case alone, its example's others count as much.
    assert [climb._serving(parameters, step, [each], groups)[0] for each in every] == serving
    scores = climb._scores(parameters, every)
    chosen = {each: float(row[expert]) for each, row, expert in zip(every, scores, serving, strict=True)}
    for budget in (24, 48):
        expected = climb.gaps.closed_over(budget, {case: chosen[case, budget] for case in cases})
        assert climb._merit(parameters, cases)[str(budget)] == pytest.approx(expected, abs=1e-4)


def test_a_search_tells_whose_turns_it_took(texty: Model, tmp_path: Path) -> None:
    for tasks, turns in (("needle,text", "benchmarks"), ("needle", None)):
        folder = tmp_path / tasks
        search(material(texty, tasks=tasks), folder, [24], seed=1, stopping=SearchLimits(steps=1))
        assert json.loads((folder / "search.jsonl").read_text().splitlines()[0]).get("turns") == turns
