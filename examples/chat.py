"""Chat about a long text whose KV cache was compressed once, and go on from the compressed cache.

    python examples/chat.py notes.txt --budget 128

The text and the first question are prefilled layer by layer, and each layer keeps what the method wants of it. Every
later turn reads its own few tokens and what was kept; the text is never read again. Generated tokens are all kept.
Without a file the first essay of the embedded haystack is the text. Leave with an empty line.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli.failing import run_script
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import compress
from cokv_bench.kvcache.continuation import Continuation
from cokv_bench.models import Model, load_model
from cokv_bench.policies import Policy, get_policy
from cokv_bench.tasks.made.haystack import read_documents


class Chat:
    """A conversation and the compact cache of all of it but its last token."""

    def __init__(self, model: Model, policy: Policy, budget: int, answer_tokens: int) -> None:
        self._model, self._policy, self._budget, self._most = model, policy, budget, answer_tokens
        self.text: Continuation | None = None

    @property
    def kept_bytes(self) -> int:
        """Bytes that are left of the first turn's keys and values."""
        return 0 if self.text is None else self.text.cache.kept_bytes

    @property
    def full_bytes(self) -> int:
        """Bytes that they would take uncompressed."""
        tokens = 0 if self.text is None else self.text.cache.evicted[0].tokens
        return tokens * self._model.layers * self._model.kv_heads * self._model.bytes_per_token

    def say(self, text: str) -> str:
        """The model's answer to a user's turn."""
        template = self._model.template
        if template is None:
            raise RequestError(f"Model '{self._model.name}' has no chat template; use one that was made for chats.")
        if self.text is None:
            ids = self._encode(template.render(text))
            found = compress(self._model, ids, self._policy, self._budget, reserve=4 * self._most)
            self.text = Continuation(self._model, ids, found)
        else:
            # What the template puts after an answer: the end of its turn, then the user's.
            self.text.read(self._encode(template.go_on("", text)))
        return self.text.write(self._most, something=True).text

    def _encode(self, text: str) -> list[int]:
        return list(self._model.text_tokenizer.encode(text, add_special_tokens=False))


def main(
    file: Annotated[Path | None, typer.Argument(help="UTF-8 text to talk about.")] = None,
    model: Annotated[str, typer.Option(help="Model: embedded name, folder or hub id.")] = "smollm2-135m",
    method: Annotated[
        str, typer.Option(help="Eviction method; cokv has embedded budgets for the embedded model.")
    ] = "cokv",
    budget: Annotated[int, typer.Option(help="Tokens a KV head on average.")] = 128,
    answer_tokens: Annotated[int, typer.Option(min=1, help="The most tokens of an answer.")] = 80,
) -> None:
    """Answer questions, a line each, until the input ends."""
    try:
        text = read_documents()[0].text if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"The text {file} cannot be read ({error}).") from None
    policy = get_policy(method)
    chat = Chat(load_model(model), policy, budget, answer_tokens)
    for number, line in enumerate(_questions()):
        print(chat.say(f"{text.strip()}\n\n{line}" if number == 0 else line), flush=True)
        if number == 0:
            print(f"[{chat.kept_bytes / 2**20:.1f} of {chat.full_bytes / 2**20:.1f} MiB of the cache are left]")


def _questions() -> Iterator[str]:
    """Lines of the input, up to its end or an empty one."""
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            return
        if not line:
            return
        yield line


if __name__ == "__main__":
    run_script(main)
