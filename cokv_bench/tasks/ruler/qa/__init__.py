"""RULER's question answering over paragraphs of a user's file: SQuAD (qa_1) and HotpotQA (qa_2)."""

from cokv_bench.tasks.ruler.qa.documents import Documents, Question
from cokv_bench.tasks.ruler.qa.draft import Answering
from cokv_bench.tasks.ruler.qa.read import PUBLISHED, read_qa

__all__ = ["PUBLISHED", "Answering", "Documents", "Question", "read_qa"]
