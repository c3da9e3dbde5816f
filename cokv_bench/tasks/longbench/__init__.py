"""LongBench v1 and LongBench-E: prompts, data, truncation and the official scores."""

from cokv_bench.tasks.longbench.data import download, load_rows
from cokv_bench.tasks.longbench.scoring import bucket_scores, dataset_score, score
from cokv_bench.tasks.longbench.specs import expand, groups, specs
from cokv_bench.tasks.longbench.task import LongBenchTask

__all__ = [
    "LongBenchTask",
    "bucket_scores",
    "dataset_score",
    "download",
    "expand",
    "groups",
    "load_rows",
    "score",
    "specs",
]
