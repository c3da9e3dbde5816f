"""`cokv-bench tune`, and evaluating with what it chose."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cokv_bench.budgets import HeadScores, HeadValues, from_head_scores
from cokv_bench.budgets.knobs import Knobs, Tried, Tuning, as_written
from cokv_bench.errors import RequestError
from cokv_bench.files import file_sha256
from cokv_bench.game.curves import ALPHAS, BETAS
from cokv_bench.game.head_game import make_game
from cokv_bench.models import Model, load_model
from cokv_bench.policies import get_policy
from cokv_bench.policies.scorers import WindowAttention
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.journal import read_records, read_run
from cokv_bench.runs.request import Request, plan_request
from cokv_bench.runs.tuning import candidates, tune
from cokv_bench.tasks.registry import TaskOptions, resolve
from tests.requests import request_of

NEEDLES = ("--tasks", "needle", "--lengths", "300", "--examples", "3")
METHODS = ("--method", "full,streaming-llm,snapkv,pyramidkv,ada-snapkv")


def test_knobs_are_chosen_on_profile_examples_and_used_by_default_options(cli, texty_folder: Path) -> None:
    asked = ("tune", "--model", texty_folder, *NEEDLES, *METHODS, "--budget", "20,40", "--out", "knobs.json")
    status, out, err = cli(*asked)
    assert status == 0, err
    assert "profile examples of needle" in out
    knobs = Knobs.load("knobs.json")
    tuning = knobs.benchmarks["needle"]
    assert set(tuning.curves) == {"streaming-llm", "snapkv", "pyramidkv", "ada-snapkv"}
    for method, curves in tuning.curves.items():
        assert set(curves) == {20, 40}
        for budget, tried in curves.items():
            # The published setting is tried first, nothing twice, and the best is chosen.
            assert tried[0].options == {knob: candidates(method)[knob][0] for knob in tried[0].options}
            assert len({json.dumps(each.options, sort_keys=True) for each in tried}) == len(tried)
            best = max(each.utility for each in tried)
            assert next(each for each in tried if each.utility == best).options == tuning.chosen(method, budget)
    # Windows lie below their budget.
    for budget, windows in ((20, {4, 8, 16}), (40, {4, 8, 16, 32})):
        assert {each.options["window"] for each in tuning.curves["snapkv"][budget]} == windows
    # Each window is tried with more and with fewer queries than it keeps, a kernel with every number of queries.
    tried = [each.options for each in tuning.curves["snapkv"][40]]
    queries = candidates("snapkv")["observe"]
    assert {(each["window"], each.get("observe")) for each in tried} == set(product((4, 8, 16, 32), queries))
    at_first = {(each.get("observe"), each["kernel"]) for each in tried if each["window"] == 8}
    assert at_first == set(product(queries, candidates("snapkv")["kernel"]))
    # What is best alone is not best together: kernel and aggregation of the queries are tried as a grid.
    together = {(each["kernel"], each["pooling"], each.get("queries")) for each in tried if each["window"] == 8}
    assert together == set(product(*(candidates("snapkv")[knob] for knob in ("kernel", "pooling", "queries"))))
    tried = tuning.curves["pyramidkv"][20]
    assert {each.options["beta"] for each in tried if "beta" in each.options} == set(
        candidates("pyramidkv")["beta"]
    ) - {20}
    # The same command has nothing left to measure.
    before = Path("knobs.json").read_bytes()
    status, _, err = cli(*asked)
    assert status == 0, err
    assert "Tuning" not in err
    assert Path("knobs.json").read_bytes() == before

    evaluation = ("eval", "--model", texty_folder, *NEEDLES, *METHODS, "--budget", "20")
    status, _, err = cli(*evaluation, "--knobs", "knobs.json", "--out", "tuned")
    assert status == 0, err
    chosen = json.loads(Path("tuned/run.json").read_text())["configuration"]["knobs"]["chosen"]
    assert chosen == {"needle": {method: {"20": tuning.chosen(method, 20)} for method in sorted(tuning.curves)}}
    status, _, err = cli(*evaluation, "--knobs", "papers", "--out", "papers")
    assert status == 0, err
    assert "knobs" not in json.loads(Path("papers/run.json").read_text())["configuration"]
    # The shipped choice is of another model: the published settings hold, and it is said.
    status, out, err = cli(*evaluation, "--out", "default")
    assert status == 0, err
    assert "published settings" in out
    assert read_run(Path("default"))["configuration"] == read_run(Path("papers"))["configuration"]


def test_methods_and_budgets_of_another_call_join_those_that_are_there(cli, texty_folder: Path) -> None:
    asked = ("tune", "--model", texty_folder, *NEEDLES, "--out")
    whole = ("whole.json", "--method", "streaming-llm,tova,snapkv", "--budget", "20,40")
    assert cli(*asked, *whole)[0] == 0
    for part in (("streaming-llm", "20,40"), ("snapkv", "40"), ("snapkv,tova", "20,40")):
        assert cli(*asked, "parts.json", "--method", part[0], "--budget", part[1])[0] == 0
    one, parts = (Knobs.load(name).benchmarks["needle"] for name in ("whole.json", "parts.json"))
    assert {method: list(curves) for method, curves in parts.curves.items()} == {
        method: [20, 40] for method in ("streaming-llm", "snapkv", "tova")
    }
    for method, curves in parts.curves.items():
        for budget, tried in curves.items():
            assert [each.options for each in tried] == [each.options for each in one.curves[method][budget]]
            utilities = ([each.utility for each in found] for found in (tried, one.curves[method][budget]))
            np.testing.assert_allclose(*utilities, atol=1e-4)
    # Other examples begin from scratch, unless that would lose the curves of other methods or budgets.
    before = Path("parts.json").read_bytes()
    for method, budget in (("snapkv", "20,40"), ("streaming-llm,snapkv,tova", "20")):
        status, _, err = cli(*asked, "parts.json", "--method", method, "--budget", budget, "--examples", "4")
        assert status == 2
        assert "parts.json holds curves of other examples, which would be lost" in " ".join(err.split())
        assert "--out" in err
    assert Path("parts.json").read_bytes() == before
    assert cli(*asked, "one.json", "--method", "streaming-llm", "--budget", "20")[0] == 0
    status, _, err = cli(*asked, "one.json", "--method", "streaming-llm", "--budget", "20,40", "--examples", "4")
    assert status == 0, err
    tuning = Knobs.load("one.json").benchmarks["needle"]
    assert (list(tuning.curves["streaming-llm"]), len(tuning.examples)) == ([20, 40], 4)


def test_a_file_of_other_settings_is_refused_and_candidates_that_were_not_tried_are(cli, texty_folder: Path) -> None:
    rows = [{"input": f"Q{i}?", "context": f"text {i} and more " * 30, "answers": [f"a{i}"]} for i in range(40)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shared = ("tune", "--model", texty_folder, "--tasks", "jsonl:rows.jsonl", "--examples", "2", "--budget", "20")
    asked = (*shared, "--method", "streaming-llm", "--out", "knobs.json")
    assert cli(*asked, "--max-length", "60")[0] == 0
    before = Path("knobs.json").read_bytes()
    for options, says in (
        (("--max-length", "80"), "max_length is 60 there and 80 here"),
        (("--max-length", "60", "--window", "16"), "window is 8 there and 16 here"),
        (("--max-length", "60", "--window", "8"), "window is absent there and 8 here"),
        (("--max-length", "60", "--template", "{context} Now: {input}"), "rules is"),
    ):
        status, _, err = cli(*asked, *options)
        assert status == 2
        told = " ".join(err.split())
        assert "knobs.json holds knobs chosen with other settings" in told
        assert says in told
    edited = [{**row, "answers": ["others"]} for row in rows]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in edited))
    status, _, err = cli(*asked, "--max-length", "60")
    assert (status, "contents is" in " ".join(err.split())) == (2, True)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli(*asked, "--max-length", "60")[0] == 0
    assert Path("knobs.json").read_bytes() == before
    # A file that does not say is taken as it is, and what it lacks of the candidates is tried.
    content = json.loads(before)
    (tuning,) = content["benchmarks"].values()
    del tuning["settings"]
    tried = tuning["curves"]["streaming-llm"]["20"]
    tuning["curves"]["streaming-llm"]["20"] = tried[:2]
    Path("knobs.json").write_text(json.dumps(content))
    assert cli(*asked, "--max-length", "60")[0] == 0
    assert json.loads(Path("knobs.json").read_text()) == json.loads(before)


def test_each_benchmark_has_its_own_utility(cli, texty_folder: Path) -> None:
    asked = ("tune", "--model", texty_folder, "--method", "streaming-llm", "--budget", "20", "--out", "knobs.json")
    assert cli(*asked, *NEEDLES)[0] == 0
    ruler = ("--tasks", "ruler/niah_single_1", "--lengths", "300", "--examples", "1")
    status, out, err = cli(*asked, *ruler, "--utility", "metric")
    assert status == 0, err
    assert "needle (utility: loglik)" in out
    assert "ruler (utility: metric)" in out
    found = Knobs.load("knobs.json").benchmarks
    assert {name: tuning.utility for name, tuning in found.items()} == {"needle": "loglik", "ruler": "metric"}
    status, _, err = cli(*asked, *NEEDLES, "--utility", "metric")
    assert status == 2
    assert "holds knobs of needle that loglik has chosen, not metric" in err


def test_the_examples_of_a_choice_are_not_evaluated_and_other_windows_are_refused(cli, texty_folder: Path) -> None:
    status, _, err = cli(
        "tune", "--model", texty_folder, *NEEDLES, "--method", "streaming-llm", "--budget", "20", "--out", "knobs.json"
    )
    assert status == 0, err
    asked = ("eval", "--model", texty_folder, *NEEDLES, "--method", "snapkv", "--budget", "20", "--knobs", "knobs.json")
    status, _, err = cli(*asked, "--split", "profile")
    assert status == 2
    assert "knobs" in err
    status, _, err = cli(*asked, "--window", "4")
    assert status == 2
    assert "windows of 8 tokens" in err
    assert "--knobs papers" in err
    status, _, err = cli(*asked[:-1], "nowhere.json")
    assert status == 2
    assert "nowhere.json" in err


def test_a_window_that_is_asked_for_stays_with_the_settings(cli, texty_folder: Path) -> None:
    """Otherwise an evaluation without --window would run them with the usual one, which nobody chose."""
    asked = ("--model", texty_folder, *NEEDLES, "--budget", "30")
    status, _, err = cli("tune", *asked, "--method", "snapkv", "--window", "16", "--out", "knobs.json")
    assert status == 0, err
    tried = Knobs.load("knobs.json").benchmarks["needle"].curves["snapkv"][30]
    assert {each.options["window"] for each in tried} == {16}
    status, _, err = cli("eval", *asked, "--method", "full,snapkv", "--knobs", "knobs.json", "--out", "run")
    assert status == 0, err
    chosen = json.loads(Path("run/run.json").read_text())["configuration"]["knobs"]["chosen"]["needle"]["snapkv"]["30"]
    assert chosen["window"] == 16


def test_a_knob_that_is_asked_for_comes_before_the_chosen_one(texty_folder: Path) -> None:
    chosen = {"kernel": 11, "pooling": "avg"}
    policy = request_of(["needle"], ["snapkv"], [20]).policy("snapkv", None, chosen)
    assert policy.scorer == WindowAttention(11, "avg")
    policy = request_of(["needle"], ["snapkv"], [20], kernel=3).policy("snapkv", None, chosen)
    assert policy.scorer == WindowAttention(3, "avg")


def test_each_method_has_its_own_window_on_one_prefill(cli, texty_folder: Path) -> None:
    loaded = load_model(str(texty_folder))
    curve = {40: [Tried({"window": 8}, -2.0), Tried({"window": 32, "kernel": 3}, -1.0), Tried({"window": 16}, -1.5)]}
    curves = {"snapkv": curve, "h2o": {40: [Tried({"window": 16}, -1.0)]}}
    tuning = Tuning(("needle",), ("none",), ("none",), "loglik", curves)
    Knobs(loaded.fingerprint, 8, False, {"needle": tuning}).save("knobs.json")

    def planned(*budgets: int, **asked: Any) -> dict[tuple[str, int], int | None]:
        methods = ["snapkv", "h2o", "pyramidkv"]
        options = TaskOptions(lengths=(300,), examples=3)
        request = request_of(["needle"], methods, [*budgets], knobs="knobs.json", options=options, **asked)
        plan = plan_request(request, loaded)
        policies = {each.key: each.policy for each in plan.jobs[0].parts[0].variants}
        assert plan.window == max(each.sees(8) for each in policies.values())
        return {key: policy.window for key, policy in policies.items()}

    assert planned(40) == {("snapkv", 40): 32, ("h2o", 40): 16, ("pyramidkv", 40): 8}
    # A window that the budget has no room for is passed over for the best of the others.
    assert planned(20)["snapkv", 20] == 16
    assert set(planned(40, window=8).values()) == {8}
    with pytest.raises(RequestError, match="among windows of 8, 16, 32 tokens, but this run has 4"):
        planned(40, window=4)

    asked = ("eval", "--model", texty_folder, *NEEDLES, "--method", "snapkv,h2o", "--budget", "40")
    status, _, err = cli(*asked, "--knobs", "knobs.json", "--out", "own")
    assert status == 0, err
    told = Path("own/table.md").read_text()
    assert "each method's own window, 16 to 32 tokens" in told
    # The answers are those of runs of one window each.
    for method, window, kernel in (("snapkv", "32", "3"), ("h2o", "16", "7")):
        status, _, err = cli(
            *asked, "--method", method, "--window", window, "--kernel", kernel, "--knobs", "papers", "--out", method
        )
        assert status == 0, err
        own, alone = (
            {
                record["example"]: record["prediction"]
                for record in read_records(Path(folder))
                if record["method"] == method
            }
            for folder in ("own", method)
        )
        assert own == alone
    # Queries beyond the window are prefilled for.
    wide = replace(tuning, curves={"snapkv": {40: [Tried({"window": 8, "observe": 64}, -1.0)]}})
    Knobs(loaded.fingerprint, 8, False, {"needle": wide}).save("knobs.json")
    assert planned(40)["snapkv", 40] == 8


def test_alpha_and_beta_of_the_head_budgets_are_chosen_too(cli, texty_folder: Path) -> None:
    status, _, err = cli("profile", "--model", texty_folder, *NEEDLES, "--samples", 24, "--out", "p")
    assert status == 0, err
    loaded = load_model(str(texty_folder))
    scores = np.arange(1.0, 1 + loaded.layers * loaded.heads).reshape(loaded.layers, loaded.heads)
    HeadScores({**loaded.fingerprint, "heads": loaded.heads}, scores, "by hand", ("needle",), ()).save("scores.json")
    files = ("--profile", "p", "--head-scores", "scores.json")
    asked = ("--model", texty_folder, *NEEDLES, "--method", "cokv,headkv", "--budget", "30")
    status, _, err = cli("tune", *asked, *files, "--out", "knobs.json")
    assert status == 0, err
    content = json.loads(Path("knobs.json").read_text())
    curves = content["benchmarks"]["needle"]["curves"]
    players = loaded.layers * loaded.kv_heads
    assert {each["options"].get("zeroed") for each in curves["cokv"]["30"]} == {
        *(alpha for alpha in ALPHAS if alpha < players),
        None,
    }
    assert {each["options"].get("beta") for each in curves["headkv"]["30"]} == {*BETAS, None}
    assert content["benchmarks"]["needle"]["heads"] == {
        "cokv": file_sha256(Path("p/values.json")),
        "headkv": file_sha256(Path("scores.json")),
    }
    # What is chosen is what the run's budgets are made with.
    best = {"cokv": {"window": 16, "zeroed": 5}, "headkv": {"window": 16, "beta": 3.0}}
    for method, options in best.items():
        curves[method]["30"].append({"options": options, "utility": 0.0})
    Path("knobs.json").write_text(json.dumps(content))
    request = request_of(
        ["needle"],
        ["cokv", "headkv"],
        [30],
        knobs="knobs.json",
        heads=HeadSources(profiles=(Path("p"),), head_scores=Path("scores.json")),
        options=TaskOptions(lengths=(300,), examples=3),
    )
    for asked_for, alpha, beta in ((request, 5, 3.0), (request_with(request, zeroed=1, beta=2.0), 1, 2.0)):
        plan = plan_request(asked_for, loaded)
        allocators = {each.method: each.policy.allocator for each in plan.jobs[0].parts[0].variants}
        values = HeadValues.load("p/values.json")
        np.testing.assert_array_equal(allocators["cokv"].budgets(30), values.budgets(30, window=16, zeroed=alpha))
        wanted = from_head_scores(scores, 30, window=16, beta=beta, kv_heads=loaded.kv_heads)
        np.testing.assert_array_equal(allocators["headkv"].budgets(30), wanted)


def test_what_was_chosen_for_one_head_file_is_not_forced_on_another(cli, texty_folder: Path) -> None:
    for name, seed in (("p", "0"), ("other", "1")):
        status, _, err = cli(
            *("profile", "--model", texty_folder, *NEEDLES, "--samples", 24, "--window", 16, "--seed", seed),
            *("--out", name),
        )
        assert status == 0, err
    assert cli("budgets", "p", "--budget", "30")[0] == 0
    loaded = load_model(str(texty_folder))
    best = [
        Tried({"window": 8, "kernel": 3}, -2.0),
        Tried({"window": 16, "kernel": 11}, -1.5),
        Tried({"window": 8, "alpha": 3, "kernel": 5}, -1.0),
    ]
    heads = {"cokv": file_sha256(Path("p/values.json"))}
    tuning = Tuning(("needle",), ("none",), ("none",), "loglik", {"cokv": {30: best}}, heads)
    Knobs(loaded.fingerprint, 8, False, {"needle": tuning}).save("knobs.json")
    assert Knobs.load("knobs.json").benchmarks["needle"] == tuning

    def chosen(**files: Any) -> dict[str, Any]:
        options = TaskOptions(lengths=(300,), examples=3, seed=7)
        request = request_of(
            ["needle"], ["cokv"], [30], knobs="knobs.json", heads=HeadSources(**files), options=options
        )
        plan = plan_request(request, loaded)
        (policy,) = {each.policy for each in plan.jobs[0].parts[0].variants}
        told = plan.configuration["knobs"]["chosen"]["needle"]["cokv"]["30"]
        assert (policy.window, policy.scorer.kernel) == (told["window"], told["kernel"])
        return told

    # Files say "zeroed", as those of earlier releases do.
    assert chosen(profiles=(Path("p"),)) == as_written(best[2].options)
    # Alpha is left to the other file, and of budgets that are made already nothing but the ranking is left to choose,
    # with the window that they were made for.
    assert chosen(profiles=(Path("other"),)) == best[1].options
    assert chosen(budget_files=(Path("p/cokv-30.budgets.json"),)) == best[1].options


def test_pairs_and_what_a_name_leaves_open_are_tuned_under_their_own_names(cli, texty_folder: Path) -> None:
    methods = "window+adaptive,snapkv:kernel=011,h2o:window=40"
    asked = ("--model", texty_folder, *NEEDLES, "--budget", "50", "--method")
    # Shares keep the ranking that they were searched with, so they have nothing to tune and none are looked for.
    status, out, err = cli("tune", *asked, f"{methods},window+cokv-search", "--out", "knobs.json")
    assert status == 0, err
    assert "…" not in out
    tuning = Knobs.load("knobs.json").benchmarks["needle"]
    assert list(tuning.curves) == ["window+adaptive", "snapkv:kernel=11"]
    tried = {name: {knob for each in curves[50] for knob in each.options} for name, curves in tuning.curves.items()}
    ranking = {"window", "observe", "pooling", "queries"}
    assert tried["window+adaptive"] == {*ranking, "kernel", "safeguard"}
    assert tried["snapkv:kernel=11"] == ranking
    status, _, err = cli(
        "eval", *asked, methods, "--knobs", "knobs.json", "--baseline", "snapkv:kernel=0011", "--out", "run"
    )
    assert status == 0, err
    told = read_run(Path("run"))["configuration"]
    assert told["methods"] == ["h2o:window=40", "snapkv:kernel=11", "window+adaptive"]
    assert set(told["knobs"]["chosen"]["needle"]) == {"snapkv:kernel=11", "window+adaptive"}
    assert told["knobs"]["chosen"]["needle"]["window+adaptive"]["50"] == tuning.chosen("window+adaptive", 50)


def request_with(request: Request, **sources: Any) -> Request:
    """The request with other knobs of the two rules."""
    return replace(request, heads=replace(request.heads, **sources))


def test_nothing_to_tune_is_refused_and_nothing_is_written(cli, texty_folder: Path) -> None:
    asked = ("tune", "--model", texty_folder, *NEEDLES, "--out", "knobs.json")
    for options in (("--method", "full"), ("--method", "snapkv", "--budget", "5000")):
        status, _, err = cli(*asked, *options)
        assert status == 2
        assert "nothing to tune" in err
        assert not Path("knobs.json").exists()


def test_a_file_that_cannot_be_written_is_told_before_the_work(
    cli, texty_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("work for a file that cannot be written")

    monkeypatch.setattr("cokv_bench.runs.tuning.tune", never)
    monkeypatch.setattr("cokv_bench.game.head_scores.measure_head_scores", never)
    (tmp_path / "file").touch()
    asked = ("tune", "--model", texty_folder, *NEEDLES, "--method", "snapkv", "--budget", "20")
    for command in (asked, ("head-scores", "--model", texty_folder)):
        status, _, err = cli(*command, "--out", "file/some.json")
        assert (status, "The folder file cannot be created (File exists)" in err) == (2, True)
    status, _, err = cli("head-scores", "--model", texty_folder, "--out", tmp_path)
    assert (status, "is a folder; name a file to write" in err) == (2, True)


def test_rankings_that_were_tried_do_not_stay_with_the_prompts(texty: Model) -> None:
    tasks = resolve(("needle",), texty, TaskOptions(lengths=(300,), examples=2))
    game = make_game(texty, tasks, "agreement", window=64)
    tune(game, ["snapkv"], [20], lambda method, options: get_policy(method, **options))
    # Nothing but the answer of the full cache is left.
    assert [len(game.prompts.get(number).memo) for number in range(2)] == [1, 1]
