"""Which means a run has."""

from cokv_bench.scores.means import is_mean, means, overall

TREC, LCC, E = "longbench/trec", "longbench/lcc", "longbench/trec_e"


def test_one_benchmark_has_the_mean() -> None:
    assert means([TREC, LCC]) == {"mean": [TREC, LCC]}
    assert means(["ruler/vt", "ruler/cwe"]) == {"mean": ["ruler/vt", "ruler/cwe"]}
    assert means([TREC]) == means(["needle"]) == {}


def test_several_benchmarks_have_their_own() -> None:
    assert means(["needle", TREC, LCC]) == {"longbench mean": [TREC, LCC]}
    assert means([E, "longbench/lcc_e", TREC, LCC]) == {
        "longbench-e mean": [E, "longbench/lcc_e"],
        "longbench mean": [TREC, LCC],
    }
    assert means(["needle", TREC, "jsonl:a.jsonl"]) == {}


def test_what_sums_a_run_up() -> None:
    assert overall([TREC, "needle", LCC]) == ["longbench mean", "needle"]
    assert overall(["needle", "jsonl:a"]) == ["needle", "jsonl:a"]
    assert [is_mean(name) for name in ("mean", "longbench mean", "needle", TREC)] == [True, True, False, False]
