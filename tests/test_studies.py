"""Scripts that study what was measured: probes, choices by them, families that a search has not seen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.game.utilities import UTILITIES, Case
from cokv_bench.kvcache import Selection, decode, prefill
from cokv_bench.models import Model
from cokv_bench.policies import get_policy
from cokv_bench.policies.attention import window_of
from cokv_bench.tasks import Example
from cokv_bench.tasks.registry import TaskOptions, resolve
from tests.scripted import script


def test_probes_compare_what_a_method_drafts_with_the_full_cache(tiny_llama: Model, texty: Model) -> None:
    script("probes")
    try:
        prompt = prefill(tiny_llama, list(range(1, 41)), window=4)
        example = Example("e", "t", "", ("",), 4, chat=False)
        (task,) = resolve(["needle"], texty, TaskOptions(lengths=(300,), examples=1))
        case = Case(tiny_llama, task, example, prompt)
        full = Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)
        few = get_policy("random").select(prompt, 8)
        values = UTILITIES.get("draft-8").measure(case, [few, full, few])
        (answer,) = decode(tiny_llama, prompt, [few], max_new_tokens=8)
        at_full, own = decode(tiny_llama, prompt, [full, few], teacher=answer.token_ids)
        assert len(answer.token_ids) > 2  # With the token that ends it, where it ends by itself.
        expected = float((at_full.logprobs - own.logprobs)[1:].double().mean())
        assert values == pytest.approx([expected, 0.0, expected], abs=1e-5)
        assert abs(expected) > 1e-3
        kept = UTILITIES.get("kept-attention").measure(case, [few, full])
        mass = torch.stack([window_of(prompt, layer).mean(dim=(1, 2)) for layer in range(prompt.layers)])
        inside = torch.stack([few.mask(layer) for layer in range(prompt.layers)])
        assert kept == pytest.approx([float(mass[inside].sum() / mass.sum()), 1.0], abs=1e-5)
    finally:
        for name in [each for each in UTILITIES if each.startswith("draft-") or each == "kept-attention"]:
            del UTILITIES[name]


def test_choices_are_judged_by_what_they_pick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, dice = script("study_choice"), np.random.default_rng(0)
    runs: dict[str, list[dict[str, Any]]] = {"scores": [], "told": [], "noise": []}
    asked = []
    for task in ("needle", "ruler/vt", "ruler/cwe", "text"):
        for number in range(8):
            low, right = dice.normal(), number % 2
            one: dict[str, Any] = {"task": task, "example": f"{task}{number}"}
            # Questions with digits are those that the method b is best for.
            asked.append({**one, "question": "Which of 3 or 4?" if right else "Which of these?"})
            one["prompt_tokens"] = 500 + number
            runs["scores"].append({**one, "method": "full", "budget": None, "score": low + 1})
            for method, score in (("snapkv", low), ("a", low + (1 - right)), ("b", low + 0.8 * right)):
                runs["scores"].append({**one, "method": method, "budget": 64, "score": score})
            for method, told in (("a", 1 - right), ("b", right)):
                runs["told"].append({**one, "method": method, "budget": 64, "score": told})
                runs["noise"].append({**one, "method": method, "budget": 64, "score": 0.5})
    monkeypatch.setattr(module, "read_records", lambda folder: runs[folder.name])
    probes = [tmp_path / "told", tmp_path / "noise"]
    module.main(tmp_path / "scores", probe=probes, method="a,b", out=tmp_path / "choice.csv")
    table = pd.read_csv(tmp_path / "choice.csv").set_index(["task", "method"])["closed"]["gain over gap"]
    expected = {"a": 0.5, "b": 0.4, "best": 0.9, "by told": 0.9, "by noise": 0.5, "by all probes": 0.9}
    assert table[list(expected)].to_dict() == pytest.approx(expected)
    assert table["by task"] < 0.9
    tests = pd.read_csv(tmp_path / "choice-tests.csv").set_index("method")
    assert set(tests["single"]) == {"a"}
    assert tests.loc["by told", "difference"] == pytest.approx(0.4)
    assert tests.loc["by told", "p_adjusted"] < 0.001
    assert tests.loc["by noise", ["difference", "p_adjusted"]].to_list() == [0, 1]
    assert "best" not in tests.index
    assert "gain over gap at 64 tokens per head" in capsys.readouterr().out
    with pytest.raises(RequestError, match="no records of 'c'"):
        module.main(tmp_path / "scores", probe=probes, method="a,c", out=None)
    assert not table.index.isin(["by the question"]).any()
    probes[1].mkdir()
    (probes[1] / "examples.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in asked))
    module.main(tmp_path / "scores", probe=probes, method="a,b", out=tmp_path / "asked.csv")
    told = pd.read_csv(tmp_path / "asked.csv").set_index(["task", "method"])["closed"]["gain over gap"]
    assert told["by the question"] == pytest.approx(0.9)
    module.main(tmp_path / "scores", method="a,b", out=tmp_path / "ceilings.csv")
    ceilings = pd.read_csv(tmp_path / "ceilings.csv").set_index(["task", "method"])["closed"]["gain over gap"]
    assert dict(ceilings) == dict(table[["a", "b", "best", "by task"]])


def test_families_are_judged_by_shares_that_have_not_seen_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, dice = script("unseen_families"), np.random.default_rng(0)
    closed = {"full": 1.0, "snapkv": 0.0, "headkv": 0.1, "cokv-search:file=all": 0.8, "cokv:file=all": 0.2}
    of_family = {"a": {"cokv-search:file=without-a": 0.5, "cokv-search:file=without-b": 9.0,
                       "cokv:file=without-a": 0.2, "cokv:file=without-b": 9.0},
                 "b": {"cokv-search:file=without-a": 9.0, "cokv-search:file=without-b": 0.3,
                       "cokv:file=without-a": 9.0, "cokv:file=without-b": 0.1}}  # fmt: skip
    unseen, seen = "cokv-search, family unseen", "cokv-search, family seen"
    records = []
    for task, family in (("needle", "a"), ("ruler/vt", "b"), ("ruler/cwe", "b")):
        for example in range(8):
            low, gap = dice.normal(), dice.uniform(1, 2)
            for method, share in {**closed, **of_family[family]}.items():
                for budget in [None] if method == "full" else [64, 128]:
                    records.append({"task": task, "example": f"{task}{example}", "method": method, "budget": budget,
                                    "score": low + share * gap})  # fmt: skip
    monkeypatch.setattr(module, "read_records", lambda run: records)
    families = ["a=needle", "b=ruler"]
    asked: dict[str, Any] = {"method": "cokv-search,cokv", "baseline": "snapkv,headkv"}
    module.main(run=[tmp_path], family=families, budget="", **asked, out=tmp_path / "unseen.csv")
    table = pd.read_csv(tmp_path / "unseen.csv").set_index(["budget", "family", "method"])["closed"]
    for budget in (64, 128):
        found = table[budget]
        for family, closes, values in (("a", 0.5, 0.2), ("b", 0.3, 0.1), (module.MEAN, 0.4, 0.15)):
            assert found[family].to_dict() == pytest.approx(
                {"headkv": 0.1, seen: 0.8, unseen: closes, "cokv, family seen": 0.2, "cokv, family unseen": values}
            )
    tests = pd.read_csv(tmp_path / "unseen-tests.csv").set_index("method")
    assert (tests["p_adjusted"] < 0.001).all()
    assert tests.loc[["snapkv", "headkv", "cokv, family unseen"], "difference"].gt(0).all()
    assert tests.loc[seen, "difference"] < 0
    assert "mean of the families" in capsys.readouterr().out
    with pytest.raises(RequestError, match="no records of 'cokv-search:file=without-c' for the family 'c'"):
        module.main(run=[tmp_path], family=["c=needle"], budget="", **asked, out=None)
    module.main(run=[tmp_path], family=families, budget="128", **asked, out=tmp_path / "one.csv")
    assert set(pd.read_csv(tmp_path / "one.csv")["budget"]) == {128}
    records[:] = [row for row in records if (row["example"], row["method"]) != ("ruler/vt3", "headkv")]
    with pytest.raises(RequestError, match="ruler/vt3 of 'ruler/vt' has no record of 'headkv'"):
        module.main(run=[tmp_path], family=families, budget="", **asked, out=None)
    with pytest.raises(RequestError, match="called 'a'"):
        module.main(run=[tmp_path], family=["a=needle", "a=ruler"], method="cokv-search", out=None)


def test_choices_in_runs_with_shares_of_the_prompt_and_of_missing_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = script("study_choice")
    rows: dict[str, list[dict[str, Any]]] = {"scores": [], "told": []}
    for task, count in (("needle", 6), ("ruler/vt", 6), ("text", 1)):
        for number in range(count):
            one = {"task": task, "example": f"{task}{number}", "prompt_tokens": 500 + number}
            # Of the only row of its task the method b is so good that it is best on average, and a is everywhere else.
            best = {"a": float(count > 1), "b": 20.0 * (count == 1)}
            rows["scores"].append({**one, "method": "full", "budget": None, "score": 1.0})
            rows["scores"].append({**one, "method": "snapkv", "budget": "25%", "score": -number / 10})
            for method, score in best.items():
                rows["scores"].append({**one, "method": method, "budget": "25%", "score": 0.4 + score / 2})
                rows["told"].append({**one, "method": method, "budget": "25%", "score": score})
    monkeypatch.setattr(module, "read_records", lambda folder: rows[folder.name])
    probe = tmp_path / "told"
    probe.mkdir()
    module.main(tmp_path / "scores", probe=[probe], method="a,b", out=tmp_path / "choice.csv")
    table = pd.read_csv(tmp_path / "choice.csv").set_index(["task", "method"])["gained"]["gain over gap"]
    assert table["by told"] > table["by task"] == pytest.approx(table["a"])
    assert "gain over gap at 25% of the prompt" in " ".join(capsys.readouterr().out.split())
    asked = [{"task": "needle", "example": f"needle{number}", "question": "Which?"} for number in range(6)]
    (probe / "examples.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in asked))
    with pytest.raises(RequestError, match=r"examples.jsonl .* says nothing of 7 of the 13 examples, such as"):
        module.main(tmp_path / "scores", probe=[probe], method="a,b", out=None)
    rows["told"] = [row for row in rows["told"] if row["example"] != "ruler/vt5"]
    with pytest.raises(RequestError, match=r"told has no records of 1 of the 13 examples, such as 'ruler/vt5'"):
        module.main(tmp_path / "scores", probe=[probe], method="a,b", out=None)
    # Nothing can be learnt on other tasks where there are none.
    (probe / "examples.jsonl").unlink()
    for name, found in rows.items():
        rows[name] = [row for row in found if row["task"] == "needle"]
    module.main(tmp_path / "scores", probe=[probe], method="a,b", out=tmp_path / "one.csv")
    ways = set(pd.read_csv(tmp_path / "one.csv")["method"])
    assert {"by told", "by task"} <= ways
    assert "by all probes" not in ways


def test_families_at_shares_of_the_prompt_count_a_row_in_each_of_its_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, dice = script("unseen_families"), np.random.default_rng(0)
    closed = {"full": 1.0, "snapkv": 0.0, "cokv-search:file=all": 0.8, "cokv-search:file=without-a": 0.5}
    records = [
        {"task": task, "example": f"e{example}", "method": method, "budget": budget, "score": share * gap}
        for task in ("ruler/vt", "ruler/cwe")
        for example, gap in enumerate(dice.uniform(1, 2, 8))
        for method, share in closed.items()
        for budget in ([None] if method == "full" else ["25%", "50%"])
    ]
    monkeypatch.setattr(module, "read_records", lambda run: records)
    asked: dict[str, Any] = {"family": ["a=ruler"], "method": "cokv-search", "baseline": "snapkv"}
    module.main(run=[tmp_path], budget="25%", **asked, out=tmp_path / "unseen.csv")
    table = pd.read_csv(tmp_path / "unseen.csv")
    assert set(table["budget"]) == {"25%"}
    assert set(table["examples"]) == {16}
    assert "Gain over gap at 25% of the prompt" in " ".join(capsys.readouterr().out.split())
    # A row that two tasks share tells no more than one alone, and no task is of two families.
    tests = pd.read_csv(tmp_path / "unseen-tests.csv")
    records[:] = [row for row in records if row["task"] == "ruler/vt"]
    module.main(run=[tmp_path], budget="25%", **asked, out=tmp_path / "one.csv")
    assert pd.read_csv(tmp_path / "one-tests.csv")["p_value"].tolist() == pytest.approx(tests["p_value"].tolist())
    with pytest.raises(RequestError, match="'ruler/vt' is of the families 'a' and 'b'"):
        module.main(run=[tmp_path], budget="", **{**asked, "family": ["a=ruler", "b=ruler/vt"]}, out=None)
    with pytest.raises(RequestError, match="whole numbers for --budget"):
        module.main(run=[tmp_path], budget="a quarter", **asked, out=None)


def test_rankings_and_splits_are_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = script("rankings_table")
    closed = {"laq:kernel=11": 0.1, "laq:kernel=11+adaptive": 0.2, "cokv-search:file=laq": 0.6, "oracle+cokv": 0.9,
              "headkv": 0.3, "cokv-search:file=all": 0.4}  # fmt: skip
    rows: dict[str, list[dict[str, Any]]] = {"first": [], "second": []}
    for run, more in (("first", 0.0), ("second", 0.05)):
        for task, count in (("ruler/vt", 4), ("longbench/trec", 1)):
            for number in range(count):
                one = {"task": task, "example": f"{task}{number}", "prompt_tokens": 500}
                rows[run].append({**one, "method": "full", "budget": None, "score": 1.0 + number})
                rows[run].append({**one, "method": "snapkv", "budget": 64, "score": 0.0})
                for method, share in closed.items():
                    # The second run has one pair alone.
                    if run == "first" or method.endswith("adaptive"):
                        score = (share + more) * (1 + number)
                        rows[run].append({**one, "method": method, "budget": 64, "score": score})
    extra = [{**row, "example": "another", "score": -9.0} for row in rows["second"] if row["example"] == "ruler/vt0"]
    rows["second"] += extra  # A row that the first run lacks counts in neither.
    monkeypatch.setattr(module, "read_records", lambda folder: rows[folder.name])
    module.main([tmp_path / "first", tmp_path / "second"], out=tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv")
    found = table.set_index(["group", "ranking", "split"]).sort_index(level=0, sort_remaining=False)
    assert set(table["group"]) == {"all", "several", "RULER", "LongBench"}
    every = [("laq", "uniform"), ("laq", "adaptive"), ("laq", "searched"), ("oracle", "cokv")]
    assert list(found.loc["RULER"].index) == every
    assert found.loc["RULER", "closed"].to_list() == pytest.approx([0.1, 0.25, 0.6, 0.9])
    assert found.loc["RULER", "run"].to_list() == ["first", "second", "first", "first"]
    assert found.loc["several", "rows"].to_list() == [4] * 4
    assert found.loc["all", "rows"].to_list() == [5] * 4
    assert found.loc["RULER", ["low", "high"]].notna().all(axis=None)
    assert "oracle (ceiling)" in capsys.readouterr().out
    rows["first"] = [row for row in rows["first"] if row["method"] != "snapkv"]
    with pytest.raises(RequestError, match="needs the methods full and snapkv"):
        module.main([tmp_path / "first"], out=None)
