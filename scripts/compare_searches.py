"""How far searches of different families come in the same time, on examples that none of them has seen.

python scripts/compare_searches.py --seconds 240 --json results/search/families.json

Every family looks for the log-shares of the heads that maximise the same utility on the same prefilled examples, and
gets the same seconds of its own; looking at the unseen examples does not count. It starts at equal shares, or with
`@cokv` or `@ada` behind its name at CoKV's budgets or at what Ada-SnapKV gives on average. Each family's shares go to a
file beside the figures, for `eval --method cokv-search --shares`. Families:
gradient    straight-through gradient ascent, the steps of `cokv-bench search` (its gaps, choice and shrinkage left out)
cma         CMA-ES with the full covariance matrix (package cma), populations of 32 on minibatches of 5
cma-diag    the same with a diagonal matrix
cma-vkd     the same with a diagonal and a few directions (VkD)
layers      CMA-ES on one share a layer, in the manner of EvolKV (arXiv 2509.08315)
surrogate   a Bayesian ridge regression of the utility on random log-shares; a step along its slope, again and again
curves      the utility by the tokens of each head alone, then tokens where the next one brings most (water-filling)
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cma
import numpy as np
import torch
import typer
from numpy.typing import NDArray
from sklearn.linear_model import BayesianRidge

from cokv_bench.budgets import HeadShares, HeadValues, embedded
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.cli.groups import Only, grouped
from cokv_bench.errors import unknown
from cokv_bench.kvcache import prefill
from cokv_bench.models.spec import ModelSpec
from cokv_bench.option import names
from cokv_bench.policies import get_policy
from cokv_bench.report.figures import numbers
from cokv_bench.runs.versions import versions
from cokv_bench.scores.intervals import interval
from cokv_bench.search import SearchExamples
from cokv_bench.search.ascent import Ascent, follow
from cokv_bench.search.examples import Point
from cokv_bench.tasks.base import made_from
from cokv_bench.tasks.prompts import encode_parts
from cokv_bench.tasks.registry import TaskOptions, resolve

Array = NDArray[np.float64]
POPULATION = 32
MINIBATCH = 5
# From which Ada-SnapKV's average is taken.
_STARTING_EXAMPLES = 8


@dataclass
class Problem:
    """What is searched: log-shares float64 [heads] at one budget."""

    examples: SearchExamples
    cases: list[int]
    budget: int
    start: Array
    seed: int
    seconds: float = 1.0
    spent: float = 0.0

    @property
    def heads(self) -> int:
        return self.start.size

    def minibatch(self, random: np.random.Generator, size: int) -> list[int]:
        """Cases to score on."""
        return [int(case) for case in random.choice(self.cases, min(size, len(self.cases)), replace=False)]

    def scores(self, candidates: Sequence[Array], cases: Sequence[int]) -> Array:
        """float64 [candidates, cases]."""
        shape = (self.examples.model.layers, self.examples.model.kv_heads)
        points = [Point(case, self.budget) for _ in candidates for case in cases]
        shares = [torch.tensor(each.reshape(shape), dtype=torch.float32) for each in candidates for _ in cases]
        return np.array(self.examples.score(points, shares)).reshape(len(candidates), len(cases))


Family = Callable[[Problem], Iterator[Array]]


def gradient(problem: Problem) -> Iterator[Array]:
    """The moving average after each step."""
    model = problem.examples.model
    start = torch.tensor(problem.start.reshape(1, model.layers, model.kv_heads), dtype=torch.float32)
    ascent, random = Ascent.start(start), np.random.default_rng(problem.seed)
    while True:
        cases = problem.minibatch(random, 10)
        points = [Point(case, problem.budget) for case in cases]
        follow(problem.examples, points, [ascent.parameters[0] + 0 for _ in points], [1.0] * len(points))
        ascent.advance(problem.spent / problem.seconds)
        yield ascent.average[0].double().numpy().ravel()


def _evolve(problem: Problem, size: int, spread: Callable[[Array], Array], **options: Any) -> Iterator[Array]:
    """The mean of CMA-ES' distribution after each generation; `spread` makes log-shares from what evolves."""
    random = np.random.default_rng(problem.seed)
    settings = {"popsize": POPULATION, "seed": problem.seed + 1, "verbose": -9, **options}
    strategy = cma.CMAEvolutionStrategy(np.zeros(size), 0.5, settings)
    while True:
        candidates = strategy.ask()
        scores = problem.scores([spread(each) for each in candidates], problem.minibatch(random, MINIBATCH))
        strategy.tell(candidates, (-scores.mean(axis=1)).tolist())
        yield spread(strategy.mean)


def heads(problem: Problem, **options: Any) -> Iterator[Array]:
    """One share a head, from the start on."""
    return _evolve(problem, problem.heads, lambda each: problem.start + each, **options)


def layers(problem: Problem) -> Iterator[Array]:
    """One share a layer."""
    model = problem.examples.model
    return _evolve(problem, model.layers, lambda each: np.repeat(each, model.kv_heads))


def surrogate(problem: Problem) -> Iterator[Array]:
    """Samples around a centre that moves along the slope of a regression on the last 512."""
    random, centre = np.random.default_rng(problem.seed), problem.start.copy()
    seen: list[Array] = []
    values: list[float] = []
    while True:
        moves = [0.5 * random.standard_normal(problem.heads) for _ in range(POPULATION)]
        scores = problem.scores([centre + move for move in moves], problem.minibatch(random, MINIBATCH)).mean(axis=1)
        seen += moves
        values += (scores - scores.mean()).tolist()
        slope = BayesianRidge().fit(np.array(seen[-512:]), np.array(values[-512:])).coef_
        centre = centre + 1.5 * slope / (np.linalg.norm(slope) + 1e-12)
        yield centre.copy()


def curves(problem: Problem) -> Iterator[Array]:
    """Tokens by the concave hulls of the heads' curves, better known example after example."""
    base = problem.budget - problem.examples.window
    most = 0.9 * base * problem.heads
    counts = np.array([count for count in (0, base / 4, base, 2 * base, 4 * base, 12 * base) if count < most])
    gains = np.zeros((problem.heads, len(counts)))
    known = 0
    while True:
        for case in problem.cases:
            for head in range(problem.heads):
                gains[head] += _curve(problem, case, head, counts)
            known += 1
            yield np.log(_fill(counts, gains / known, base * problem.heads) + 0.5)


def _curve(problem: Problem, case: int, head: int, counts: Array) -> Array:
    """The score of a case when one head keeps so many tokens and the others equal shares of the rest."""
    total = problem.heads * (problem.budget - problem.examples.window)
    candidates = []
    for count in counts:
        shares = np.full(problem.heads, (total - count) / (problem.heads - 1))
        shares[head] = max(count, 1e-3)
        candidates.append(np.log(shares))
    return problem.scores(candidates, [case])[:, 0]


def _fill(counts: Array, gains: Array, total: int) -> Array:
    """Tokens of each head: piece after piece of the curves' concave hulls, the steepest first."""
    pieces = []
    for head, curve in enumerate(gains):
        at = 0
        while at < len(counts) - 1:
            slopes = (curve[at + 1 :] - curve[at]) / (counts[at + 1 :] - counts[at])
            best = int(slopes.argmax())
            pieces.append((-float(slopes[best]), head, counts[at + 1 + best] - counts[at]))
            at += 1 + best
    tokens, left = np.zeros(len(gains)), float(total)
    for _, head, length in sorted(pieces):
        given = min(left, length)
        tokens[head] += given
        left -= given
    return tokens


FAMILIES: dict[str, Family] = {
    "gradient": gradient,
    "cma": heads,
    "cma-diag": partial(heads, CMA_diagonal=True),
    "cma-vkd": partial(heads, **cma.restricted_gaussian_sampler.GaussVkDSampler.extend_cma_options({})),
    "layers": layers,
    "surrogate": surrogate,
    "curves": curves,
}
# Behind the "@" of a family's name; equal shares have none.
_STARTS = ("cokv", "ada")


def races(text: str) -> dict[str, tuple[Family, str]]:
    """Family and start ("" at equal shares) of each name in a list such as "gradient,cma@cokv".

    Raises:
        RequestError: an unknown family or start.
    """
    found = {}
    for name in names(text, "family"):
        family, _, start = name.partition("@")
        if family not in FAMILIES:
            raise unknown("family", family, FAMILIES)
        if start and start not in _STARTS:
            raise unknown("start", start, _STARTS)
        found[name] = FAMILIES[family], start
    return found


@grouped
def main(
    model: ModelSpec,
    tasks: Annotated[TaskOptions, Only("names", "lengths")],
    families: Annotated[str, typer.Option(help="Families, comma separated.")] = ",".join(FAMILIES),
    budget: Annotated[int, typer.Option(help="Tokens per KV head.")] = 64,
    utility: Annotated[str, typer.Option(help="agreement or loglik.")] = "agreement",
    profile: Annotated[Path | None, typer.Option(help="CoKV's head values. Default: the embedded ones.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="For each family.")] = 240.0,
    examples: Annotated[int, typer.Option(help="A length, to search on.")] = 40,
    unseen: Annotated[int, typer.Option(help="A length, from the test split.")] = 30,
    seed: o.Seed = 0,
    json_file: o.JsonFile = None,
) -> None:
    """Run the families one after the other and print a table."""
    wanted = races(families)
    loaded = o.load(model)

    def material(split: Any, count: int) -> SearchExamples:
        options = replace(tasks, examples=count)
        return SearchExamples(loaded, resolve(tasks.names, loaded, options), [utility], window=8, split=split)

    searched, test = material("profile", examples), material("test", unseen)
    # Those that budgets can change; prefilled before any clock runs.
    cases, followed = test.counted, searched.counted
    full = np.array([test.full(case) for case in cases])
    size = loaded.layers * loaded.kv_heads
    values = HeadValues.load(profile or embedded.values_path())
    cokv = np.log(values.budgets(budget, window=8).ravel() - 8 + 0.5)
    equal = Problem(test, cases, budget, np.zeros(size), seed)
    known = {"full": full, "snapkv": equal.scores([np.zeros(size)], cases)[0], "cokv": equal.scores([cokv], cases)[0]}
    rows: dict[str, Any] = {name: _row(scores, known) for name, scores in known.items()}
    starts = {"": np.zeros(size), "cokv": cokv, "ada": _adaptive(searched, budget)}
    for name, (family, start) in wanted.items():
        problem = Problem(searched, followed, budget, starts[start], seed, seconds)
        rows[name], shares = _race(family, problem, lambda each: equal.scores([each], cases)[0], known)
        typer.echo(f"{name}: {rows[name]}")
        if json_file is not None:
            path = json_file.parent / f"{json_file.stem}-{name.replace('@', '-from-')}.shares.json"
            _file(searched, shares, budget, name).save(path)
    figures = {
        "model": loaded.fingerprint,
        "tasks": list(tasks.names),
        "budget": budget,
        "utility": utility,
        "seconds": seconds,
        "examples": len(followed),
        "unseen": len(cases),
        "families": rows,
        "versions": versions(),
    }
    o.save_figures(json_file, figures)


def _adaptive(examples: SearchExamples, budget: int) -> Array:
    """Log-shares of what Ada-SnapKV gives each head, on average over some examples."""
    model, policy = examples.model, get_policy("ada-snapkv")
    given = np.zeros((model.layers, model.kv_heads))
    for _, example in examples.rows[:_STARTING_EXAMPLES]:
        ids = encode_parts(model, example, examples.encoding).prompt
        prompt = prefill(model, ids, window=examples.window, accumulated_attention=False)
        given += policy.select(prompt, budget).counts.numpy() - examples.window
    return np.log(given / _STARTING_EXAMPLES + 0.5).ravel()


def _file(examples: SearchExamples, shares: Array, budget: int, family: str) -> HeadShares:
    model = examples.model
    return HeadShares(
        (budget,),
        shares.reshape(1, model.layers, model.kv_heads),
        examples.window,
        examples.utilities,
        **made_from(examples.rows),
        model=model.fingerprint,
        search={"family": family},
    )


def _race(
    family: Family, problem: Problem, unseen: Callable[[Array], Array], known: dict[str, Array]
) -> tuple[dict[str, Any], Array]:
    """Run a family for its time, looking at the unseen examples at an eighth, a quarter, half of it and the end."""
    steps, units, curve = family(problem), 0, []
    looks = [problem.seconds / 8, problem.seconds / 4, problem.seconds / 2]
    while problem.spent < problem.seconds:
        begun = time.perf_counter()
        found = next(steps)
        problem.spent += time.perf_counter() - begun
        units += 1
        if looks and problem.spent >= looks[0]:
            looks = [look for look in looks if look > problem.spent]
            curve.append({"seconds": round(problem.spent, 1), **_row(unseen(found), known)})
    return {"steps": units, "curve": curve, **_row(unseen(found), known)}, found


def _row(scores: Array, known: dict[str, Array]) -> dict[str, Any]:
    gap = (known["full"] - known["snapkv"]).mean()
    above = scores - known["cokv"]
    low, high = numbers(interval([above]))
    return {
        "logprob": float(scores.mean()),
        "above_cokv": float(above.mean()),
        "above_cokv_ci_low": low,
        "above_cokv_ci_high": high,
        "gap_closed": float((scores - known["snapkv"]).mean() / gap),
    }


if __name__ == "__main__":
    run_script(main)
