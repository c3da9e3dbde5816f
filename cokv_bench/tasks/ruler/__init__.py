"""RULER (Hsieh et al., arXiv 2404.06654): the eleven subtasks that are made up, at any length in tokens.

Needles (niah_*), variable tracking (vt), common words (cwe) and frequent words (fwe) follow the published
definitions, counts and answer lengths; the sentences are this project's. Left out are the two subtasks that need a
question-answering data set (qa_1, qa_2), and the worked examples that the published vt and cwe prompts begin with.
"""

from cokv_bench.tasks.ruler.subtasks import SUBTASKS, expand
from cokv_bench.tasks.ruler.task import RulerTask

__all__ = ["SUBTASKS", "RulerTask", "expand"]
