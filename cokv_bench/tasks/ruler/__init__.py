"""RULER (Hsieh et al., arXiv 2404.06654) at any length in tokens.

Eleven subtasks are made up: needles (niah_*), variable tracking (vt), common words (cwe) and frequent words (fwe). The
two of question answering (qa_1 on SQuAD, qa_2 on HotpotQA) take a file of the user's. All follow the published
definitions, counts and answer lengths; the sentences are this project's.
"""

from cokv_bench.tasks.ruler.qa import read_qa
from cokv_bench.tasks.ruler.subtasks import FROM_FILE, SUBTASKS, expand
from cokv_bench.tasks.ruler.task import RulerTask

__all__ = ["FROM_FILE", "SUBTASKS", "RulerTask", "expand", "read_qa"]
