"""Tasks: examples with prompts and answers, and the scores of predictions."""

from cokv_bench.tasks.base import Example, Split, Task, content_id, in_profile_split, side_of, split_rule

__all__ = ["Example", "Split", "Task", "content_id", "in_profile_split", "side_of", "split_rule"]
