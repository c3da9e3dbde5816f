"""What does one coalition on one example cost: published way against ours, in one run on the same examples?

    python scripts/bench_profile.py --length 1024 --json results/smollm2-135m/bench_profile_1k.json

(a) repeats prefill and generation for every coalition, as CoKV's code does (arXiv 2502.17501). (b) generates from one
shared prompt cache, utility `metric`. (c) scores the reference answer from it, utility `loglik`. The floor is the time
of the matrix products that (b) and (c) cannot do without, on operands of the same shapes: the model's linear layers,
and attention of the coalition's heads to the prompt and of the others to the window. The answers of (a) and (b) are
compared; where two differ, the log-probabilities of the tokens at which they part tell whether it was a tie.
"""

import json as json_format
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

# Read by the profiler when torch is imported: no lines of its own between ours.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

from cokv_bench.bench.timing import seconds
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.cli.groups import grouped
from cokv_bench.errors import RequestError
from cokv_bench.game.head_game import Game, make_game
from cokv_bench.game.sampling import get_sampling
from cokv_bench.game.utilities import Case, get_utility
from cokv_bench.kvcache import Generation, Prompt, Selection, decode, prefill
from cokv_bench.kvcache.batching import logit_rows, rows_at_a_time
from cokv_bench.models import Model, encode_answer
from cokv_bench.models.spec import ModelSpec
from cokv_bench.tasks import Example
from cokv_bench.tasks.prompts import encode_example
from cokv_bench.tasks.registry import TaskOptions, resolve

#: A difference of log-probabilities (nats) that float32 arithmetic in another order can make.
TIE = 1e-3


@dataclass(frozen=True)
class Bench:
    """The part of a game that is measured: coalitions, bool [coalitions, players]."""

    game: Game
    members: np.ndarray
    repeats: int

    def selections(self, prompt: Prompt) -> list[Selection]:
        model = self.game.model
        shaped = self.members.reshape(-1, model.layers, model.kv_heads)
        return [Selection.from_coalition(inside, prompt.tokens, self.game.window) for inside in shaped]

    def seconds(self, work: Callable[[], Any]) -> float:
        """Median seconds a coalition."""
        return float(np.median(seconds(work, self.repeats))) / len(self.members)


def greedy(model: Model, example: Example, prompt: Prompt, selections: Sequence[Selection]) -> list[Generation]:
    """Answers as the utility `metric` has them."""
    return decode(
        model,
        prompt,
        selections,
        max_new_tokens=example.max_new_tokens,
        stop_at_newline=example.stop_at_newline,
    )


def published(bench: Bench, example: Example, count: int) -> tuple[list[Generation], list[float]]:
    """(a): answers under the first `count` coalitions, and the seconds of each."""
    model, ids = bench.game.model, encode_example(bench.game.model, example)
    answers, times = [], []
    for inside in bench.members[:count].reshape(-1, model.layers, model.kv_heads):
        started = time.perf_counter()
        prompt = prefill(model, ids, window=bench.game.window, accumulated_attention=False)
        choice = Selection.from_coalition(inside, prompt.tokens, bench.game.window)
        answers.extend(greedy(model, example, prompt, [choice]))
        times.append(time.perf_counter() - started)
    return answers, times


def floor_seconds(bench: Bench, prompt: Prompt, passes: Sequence[tuple[int, int]]) -> float:
    """Seconds a coalition of the matrix products of forward passes over (rows, new tokens of a row) each."""
    model = bench.game.model
    decoder = model.decoder
    linear = [module for module in decoder.modules() if isinstance(module, torch.nn.Linear)]
    share = float(bench.members.mean())
    group = model.heads // model.kv_heads

    def products() -> None:
        for rows, new in passes:
            for module in linear:
                torch.nn.functional.linear(inputs[module.in_features][: rows * new], module.weight)
            for start in range(0, rows * new, head_rows):
                states = inputs[model.config.hidden_size][start : min(rows * new, start + head_rows)]
                torch.nn.functional.linear(states, model.network.get_output_embeddings().weight)
            # Players are alike in sampled coalitions, so every head has about the mean share of the rows.
            inside = max(1, round(share * rows))
            for keys, values in zip(prompt.keys, prompt.values, strict=True):
                for head in range(model.kv_heads):
                    for count, first in ((inside, 0), (rows - inside, prompt.tokens - prompt.window)):
                        for part in queries[: count * group * new].split(512):
                            scores = part @ keys[head, first:].T
                            torch.matmul(scores, values[head, first:])

    most = max(rows * new for rows, new in passes)
    head_rows = logit_rows(model, prompt)
    widths = {module.in_features for module in linear}
    inputs = {width: torch.randn(most, width, dtype=model.network.dtype) for width in widths}
    queries = torch.randn(most * group, model.head_dim, dtype=model.network.dtype)
    with torch.inference_mode():
        return bench.seconds(products)


def passes_of(answers: Sequence[Generation], limit: int) -> list[tuple[int, int]]:
    """Rows still at work in each forward pass of greedy decoding; the first token needs none."""
    lengths = np.array([len(answer.token_ids) for answer in answers])
    batches = [lengths[start : start + limit] for start in range(0, len(lengths), limit)]
    return [(int((batch > done).sum()), 1) for batch in batches for done in range(1, int(batch.max()))]


def peak_bytes(work: Callable[[], Any]) -> int:
    """The most bytes of tensors that existed at a time above those at the start, by the allocator's own events."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json_format.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    return int(np.cumsum([size for _, size in changes]).max())


def explained(model: Model, prompt: Prompt, selection: Selection, one: Generation, other: Generation) -> bool:
    """Whether two different answers part at tokens that are equally likely, but for rounding."""
    shared = next(k for k, (x, y) in enumerate(zip(one.token_ids, other.token_ids, strict=False)) if x != y)
    likely = []
    for answer in (one, other):
        (row,) = decode(model, prompt, [selection], teacher=answer.token_ids[: shared + 1])
        assert row.logprobs is not None
        likely.append(float(row.logprobs[-1]))
    return abs(likely[0] - likely[1]) < TIE


def measure_example(bench: Bench, number: int, count: int) -> dict[str, Any]:
    """All figures of one example; times in seconds a coalition."""
    game = bench.game
    model, (task, example) = game.model, game.rows[number]
    repeated, times = published(bench, example, count)
    started = time.perf_counter()
    prompt = game.prompts.get(number)
    prefilled = time.perf_counter() - started
    selections = bench.selections(prompt)
    ours = greedy(model, example, prompt, selections)
    answer = encode_answer(model, example.prompt, example.answers[0], chat=example.chat)
    scored = max(1, len(answer) - 1)
    scores = [[task.score(example, a.text)["score"] for a in answers] for answers in (repeated, ours[:count])]
    different = [k for k in range(count) if scores[0][k] != scores[1][k]]
    texts = [k for k in range(count) if repeated[k].token_ids != ours[k].token_ids]
    own = prompt.layers * prompt.kv_heads * model.bytes_per_token
    figures: dict[str, Any] = {"tokens": prompt.tokens, "answer_tokens": len(answer), "a": times, "prefill": prefilled}
    for name, utility, new, reserve in (
        ("b", "metric", 1, example.max_new_tokens - 1),
        ("c", "loglik", scored, scored),
    ):
        rows = min(len(selections), rows_at_a_time(model, prompt, tokens_a_pass=new, reserve=reserve))
        measure = get_utility(utility).measure

        def work(measure: Any = measure) -> None:
            measure(Case(model, task, example, prompt), selections)

        figures[name] = bench.seconds(work)
        batches = [rows] * (len(selections) // rows) + [len(selections) % rows] * (len(selections) % rows > 0)
        passes = passes_of(ours, rows) if name == "b" else [(batch, new) for batch in batches]
        figures[f"{name}_floor"] = floor_seconds(bench, prompt, passes)
        extra = peak_bytes(work) - rows * reserve * own
        figures[f"{name}_memory"] = 1 + extra / prompt.nbytes
    figures |= {
        "new_tokens": float(np.mean([len(a.token_ids) for a in ours])),
        "compared": count,
        "other_tokens": len(texts),
        "other_utilities": len(different),
        "ties": sum(explained(model, prompt, selections[k], repeated[k], ours[k]) for k in texts),
    }
    return figures


@grouped
def main(
    model: ModelSpec,
    length: Annotated[int, typer.Option(help="Prompt length in tokens.")] = 1024,
    examples: Annotated[int, typer.Option(min=1, help="Needles.")] = 4,
    coalitions: Annotated[int, typer.Option(min=2, help="Coalitions that (b) and (c) measure.")] = 256,
    repeated: Annotated[int, typer.Option(min=1, help="Coalitions an example that (a) measures.")] = 26,
    repeats: Annotated[int, typer.Option(min=1, help="Times that (b), (c) and the floor are measured.")] = 3,
    window: o.Window = 8,
    seed: o.Seed = 0,
    json: o.JsonFile = None,
) -> None:
    """Compare the cost of a coalition and example: repeated prefill, shared prompt, teacher forced."""
    if repeated > coalitions:
        raise RequestError(f"--repeated {repeated} is more than the {coalitions} coalitions; lower it.")
    loaded = o.load(model)
    tasks = resolve(["needle"], loaded, TaskOptions(lengths=(length,), examples=examples, seed=seed))
    game = make_game(loaded, tasks, "metric", window=window)
    plan = get_sampling("slices").plan(game.players, seed)
    bench = Bench(game, plan.coalitions(0, coalitions), repeats)
    rows = []
    for number in range(len(game.rows)):
        o.note(f"Example {number + 1} of {len(game.rows)}")
        rows.append(measure_example(bench, number, repeated))
    a = float(np.median([t for row in rows for t in row["a"]]))
    figures: dict[str, Any] = {
        "model": loaded.name,
        "length": length,
        "coalitions": coalitions,
        "threads": torch.get_num_threads(),
        "a_seconds": a,
        "prefill_seconds": float(np.median([row["prefill"] for row in rows])),
    }
    told = [("(a) prefill and generate anew", f"{a:.3f}", "1", "", "", "")]
    for name, label in (("b", "(b) shared prompt, metric"), ("c", "(c) shared prompt, loglik")):
        cost, floor = (float(np.median([row[key] for row in rows])) for key in (name, f"{name}_floor"))
        memory = max(row[f"{name}_memory"] for row in rows)
        figures |= {f"{name}_seconds": cost, f"{name}_ratio": a / cost, f"{name}_floor_seconds": floor}
        figures |= {f"{name}_floor_ratio": a / floor, f"{name}_memory": memory}
        told.append((label, f"{cost:.4f}", f"{a / cost:.0f}", f"{floor:.4f}", f"{cost / floor:.2f}", f"{memory:.2f}"))
    compared, other, utilities, ties = (
        sum(row[key] for row in rows) for key in ("compared", "other_tokens", "other_utilities", "ties")
    )
    figures |= {"compared": compared, "other_tokens": other, "other_utilities": utilities, "ties": ties}
    o.print_table(
        f"Seconds a coalition and example of {length} tokens, {torch.get_num_threads()} threads",
        ("", "seconds", "(a) /", "floor", "/ floor", "memory"),
        told,
        words=[""],
    )
    o.tell(
        "(a) /: times cheaper than (a). Floor: the matrix products alone. Memory: most bytes of tensors at a time, "
        "less the batch's own tokens, over the prompt's KV; the worst example.\n"
        f"(a) and (b): {compared - utilities} of {compared} utilities equal, {compared - other} answers equal token by "
        f"token; of the {other} others {ties} part at a tie (less than {TIE} nats apart).\n"
        f"Prefill of an example: {figures['prefill_seconds']:.2f} s, once for all coalitions in (b) and (c)."
    )
    o.save_figures(json, {**figures, "examples": rows})


if __name__ == "__main__":
    run_script(main)
