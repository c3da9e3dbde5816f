import difflib
import importlib
import sys

import pytest
from fuzzywuzzy import fuzz
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge import Rouge

from cokv_bench.errors import RequestError
from cokv_bench.tasks.longbench import bucket_scores, dataset_score, expand, score, specs
from cokv_bench.tasks.metrics import METRICS, best_score, edit_similarity
from cokv_bench.tasks.rows.rules import score_columns

texts = st.lists(st.sampled_from(["a", "b", "c", "d", "A", "b.", ".", "é", "\t", "3.5"]), max_size=60).map(" ".join)


@settings(max_examples=300)
@given(texts, texts)
def test_rouge_is_the_rouge_packages_number(prediction, answer):
    try:
        expected = Rouge().get_scores([prediction], [answer], avg=True)["rouge-l"]["f"]
    except ValueError:  # The package refuses a text without a sentence; the official scorer then gives 0.
        expected = 0.0
    assert METRICS["rouge"](prediction, answer, ()) == pytest.approx(expected, abs=1e-12)


def test_rouge_of_a_prediction_far_beyond_the_recursion_limit():
    answer = " ".join(f"w{i}" for i in range(500))
    prediction = answer + " x" * 20_000
    # 500 of 500 distinct words recalled, 500 of 501 predicted ones right.
    assert len(prediction.split()) > 10 * sys.getrecursionlimit()
    assert score("gov_report", prediction, [answer]) == pytest.approx(2 * 500 / 1001, abs=1e-6)


def test_code_similarity_refuses_to_load_without_levenshtein(monkeypatch):
    monkeypatch.setattr(fuzz, "SequenceMatcher", difflib.SequenceMatcher)
    with pytest.raises(ImportError, match="pip install python-Levenshtein"):
        importlib.reload(edit_similarity)


def test_the_best_answer_counts():
    assert score("hotpotqa", "Paris", ["London", "Paris, France", "the Paris."]) == 1.0
    assert score("hotpotqa_e", "Paris", ["London"]) == 0.0


def test_only_few_shot_tasks_are_scored_on_the_first_line():
    prediction = "\n\nwrong\nParis"
    assert score("triviaqa", prediction, ["Paris"]) == 0.0
    assert score("hotpotqa", prediction, ["Paris"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["hotpotaq", "narrativeqa_e", "hotpotqa_e_e", ""])
def test_unknown_task(name):
    with pytest.raises(RequestError, match="Unknown LongBench task"):
        score(name, "a", ["a"])


def test_near_names_are_suggested():
    with pytest.raises(RequestError, match=r"did you mean .*hotpotqa"):
        score("hotpotaq", "a", ["a"])
    with pytest.raises(RequestError, match=r"did you mean .*rouge"):
        best_score("rogue", "a", ["a"])
    with pytest.raises(RequestError, match=r"did you mean .*longbench/trec"):
        expand("longbench/tre")


def test_classes_are_needed():
    with pytest.raises(RequestError, match="all_classes"):
        score("trec", "Date", ["Date"])


def test_an_answer_without_a_number_is_refused():
    with pytest.raises(RequestError, match="Paragraph 7"):
        score("passage_retrieval_en", "Paragraph 7", ["seven"])


def test_summaries_have_the_other_rouge_beside_the_score():
    columns = score_columns(specs()["gov_report"], "The report.", ["the report"], None)
    # rouge-score ignores case and punctuation, the rouge package does not ignore case.
    assert columns == {"score": pytest.approx(0.5, abs=1e-6), "rouge_score_l": 1.0}
    assert "rouge_score_l" not in score_columns(specs()["vcsum"], "报告", ["报告"], None)


def test_groups():
    papers, e, everything = expand("longbench"), expand("longbench-e"), expand("longbench/all")
    assert len(set(papers)) == 16
    assert len(set(e)) == 13
    assert len(set(everything)) == 21
    assert set(papers) < set(everything)
    assert {name.removesuffix("_e") for name in e} < set(papers)
    assert all(name.endswith("_e") for name in e)
    assert expand("longbench/hotpotqa") == ["longbench/hotpotqa"]
    assert expand("longbench/2wikimqa_e") == ["longbench/2wikimqa_e"]


def test_rules_of_the_tasks():
    by = specs()
    assert {name for name, spec in by.items() if not spec.chat} == {
        "trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p",
    }  # fmt: skip
    assert {name for name, spec in by.items() if spec.first_line} == {"trec", "triviaqa", "samsum", "lsht"}
    assert {name for name, spec in by.items() if spec.stop_at_newline} == {"samsum"}
    # White space at the end of a prompt is the first thing an editor loses.
    assert by["passage_count"].template.endswith("is: ")
    assert by["lcc"].template.endswith("Next line of code:\n")


def test_bucket_edges_and_empty_buckets():
    scores = bucket_scores("hotpotqa", ["a b", "x", "x"], [["a b"], ["x"], ["y"]], [3999, 4000, 7999])
    assert scores == {"0-4k": 100.0, "4-8k": 50.0, "8k+": None}
    with pytest.raises(RequestError, match="no predictions"):
        dataset_score("hotpotqa", [], [])
