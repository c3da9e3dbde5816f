"""Plain text, then a passage of it once more."""

from cokv_bench.tasks.text.task import TextTask

__all__ = ["TextTask"]
