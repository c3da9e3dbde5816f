"""A toy task and its benchmark: a word many times, and the answer is the word once more."""

from cokv_bench.tasks import Example, content_id
from cokv_bench.tasks.family import Family, Size
from cokv_bench.tasks.registry import add_family

WORDS = {"profile": "moss fern", "test": "salt iron", "report": "wool silk"}


class Echo:
    """A word many times: the answer is the word once more."""

    name, metric, version = "echo", "echoed", 1

    def examples(self, split):
        words = " ".join(words for side, words in WORDS.items() if split in (side, "all")).split()
        return [self.example(word, f"{word} " * 200) for word in words]

    def example(self, word, text):
        return Example(content_id(text), self.name, text, (word,), max_new_tokens=4)

    def score(self, example, prediction):
        return {"score": float(example.answers[0] in prediction)}


class Echoes(Family):
    name = "echo"

    def lines(self):
        return {"echo": "a word many times, then once more"}

    def make(self, name, model, options):
        return Echo()

    def size(self, task, options, split, rows):
        # A word is one token or two.
        return Size(len(Echo().examples(split)), new_tokens=4, lengths=(400,))


add_family(Echoes())
