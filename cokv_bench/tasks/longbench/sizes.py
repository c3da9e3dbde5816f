"""How many rows the benchmark's published files have (its README, and arXiv 2308.14508)."""

from cokv_bench.tasks.longbench.specs import PREFIX, is_e

_ROWS = {"multifieldqa_en": 150, "lcc": 500, "repobench-p": 500}
_ROWS_E = {"qasper_e": 224, "multifieldqa_en_e": 150, "multi_news_e": 294}


def published_rows(task: str) -> int:
    """Rows of a task by its full name, such as longbench/hotpotqa or longbench/hotpotqa_e."""
    name = task.removeprefix(PREFIX)
    return _ROWS_E.get(name, 300) if is_e(name) else _ROWS.get(name, 200)
